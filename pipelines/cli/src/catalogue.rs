//! The tables of a pipeline for queries: its views, and its streams in Parquet folders with what is on its way there.
//!
//! What a reader would get wrong: all tables of a query are read at the end of one epoch. Views say theirs; a stream is cut off
//! there. The sinks have an epoch before the views do, so a folder may be a moment ahead: then all of it is looked at again.

mod own;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use crate::watching::Watching;
use arrow::array::ArrayRef;
use foreline_connectors::parquet::{Lake, LakePart, Seen};
use foreline_engine::{Column, Table as View};
use foreline_server::{Ask, Figures, Found, NotFound};
use foreline_spec::Plan;
use foreline_sql::{
    About, Catalogue, Content, Files, Limits, Part, Queries, QueryError, Refusal, Snapshot,
};

/// The tables of a pipeline.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    views: BTreeMap<String, Arc<View>>,
    lakes: BTreeMap<String, Lake>,
    /// Streams whose last rows are kept in memory, and that are in no folder.
    watching: Watching,
    /// Whether rows come while it is asked.
    runs: bool,
    /// What the engine knows of itself.
    own: own::Own,
}

impl Tables {
    /// Those of a pipeline that runs, with its views.
    pub(crate) fn running(
        plan: &Plan,
        views: &[(String, Arc<View>)],
        watching: &Watching,
        figures: &Arc<Figures>,
    ) -> Self {
        let own = own::Own::running(plan, watching, figures);
        let views = views.iter().map(|(name, view)| (name.clone(), Arc::clone(view))).collect();
        let (lakes, mut watching) = (lakes(plan), watching.clone());
        watching.kept.retain(|name, _| !lakes.contains_key(name));
        Tables { views, lakes, watching, runs: true, own }
    }

    /// Those of a pipeline at rest: what its sinks have written.
    pub(crate) fn at_rest(plan: &Plan) -> Self {
        let own = own::Own::at_rest(plan);
        let watching = Watching::default();
        Tables { views: BTreeMap::new(), lakes: lakes(plan), watching, runs: false, own }
    }

    /// The same, with what administrators alone may see.
    pub(crate) fn for_admins(mut self) -> Self {
        self.own.for_admins();
        self
    }

    /// Whether there is anything of the pipeline itself.
    pub(crate) fn has_rows(&self) -> bool {
        !(self.views.is_empty() && self.lakes.is_empty() && self.watching.kept.is_empty())
    }

    /// Whether the pipeline has a table of that name.
    fn has(&self, name: &str) -> bool {
        self.views.contains_key(name)
            || self.lakes.contains_key(name)
            || self.watching.kept.contains_key(name)
    }

    /// One look at all of them; `None` where they did not show one epoch.
    fn look(&self, names: &[String]) -> Result<Option<Snapshot>, String> {
        let mut seen: BTreeMap<&String, Seen> = BTreeMap::new();
        for name in names {
            if let Some(lake) = self.lakes.get(name) {
                let failed = |e| format!("'{}' cannot be read: {e}", lake.folder().display());
                seen.insert(name, lake.look().map_err(failed)?);
            }
        }
        let mut epoch = None;
        let mut pages = BTreeMap::new();
        for name in names {
            let Some(view) = self.views.get(name) else { continue };
            if view.edition().is_none() {
                return Err(format!("'{name}' is not there yet: the run catches up with what was"));
            }
            let page = view.all().map_err(|e| format!("'{name}' cannot be read: {e}"))?;
            if epoch.is_some_and(|epoch| epoch != page.epoch) {
                return Ok(None);
            }
            epoch = Some(page.epoch);
            pages.insert(name, page.rows);
        }
        let is_kept = names.iter().any(|name| self.watching.kept.contains_key(name));
        // Of what is kept in memory nothing is shown that is not with all sinks.
        let through = Some(self.watching.vitals.through()).filter(|_| is_kept);
        if self.runs {
            let of_files = seen.values().filter_map(Seen::epoch);
            epoch = epoch.or_else(|| of_files.chain(through).min());
            let is_ahead = |s: &Seen| s.committed() > epoch && epoch.is_some();
            let is_behind = |s: &Seen| s.epoch().is_some() && s.epoch() < epoch;
            if seen.values().any(|s| is_ahead(s) || is_behind(s)) {
                return Ok(None);
            }
        }
        let upto = epoch.filter(|_| self.runs);
        if !self.runs {
            let mut epochs = seen.values().map(Seen::epoch);
            let first = epochs.next().flatten();
            epoch = first.filter(|_| epochs.all(|e| e == first));
        }
        let mut tables = Vec::new();
        for name in names {
            tables.push(match (pages.remove(name), seen.remove(name)) {
                (Some(rows), _) => Content::Rows(vec![rows]),
                (None, Some(seen)) => Content::Files(self.files(name, seen, upto)?),
                (None, None) => match self.watching.kept.get(name) {
                    Some(recent) => {
                        let stood = recent.rows(epoch.unwrap_or(0), None);
                        let stood = stood.map_err(|e| format!("'{name}' cannot be read: {e}"))?;
                        Content::Rows(vec![stood.rows.rows])
                    }
                    None => Content::Rows(vec![self.own.rows(name)?]),
                },
            });
        }
        Ok(Some(Snapshot { epoch, tables }))
    }

    fn files(&self, name: &str, seen: Seen, upto: Option<u64>) -> Result<Files, String> {
        let schema = self.lakes[name].schema();
        let identity = schema.key().iter().copied().chain([schema.time()]);
        let identity = identity.map(|at| schema.columns()[at].name.clone()).collect();
        let failed = |e| format!("'{name}' cannot be read: {e}");
        let generations = seen.rows(upto).map_err(failed)?.into_iter().map(|(generation, part)| {
            let LakePart { rows, corrections, recent, recent_corrections } = part;
            (generation, Part { rows, corrections, recent, recent_corrections })
        });
        Ok(Files { generations: generations.collect(), identity })
    }
}

/// The streams whose rows lie in folders of this machine.
fn lakes(plan: &Plan) -> BTreeMap<String, Lake> {
    let views: Vec<&String> = plan.views.iter().map(|v| &v.name).collect();
    let mut lakes = BTreeMap::new();
    for sink in &plan.sinks {
        let name = plan.stream_name(sink.from);
        if let Some(lake) = &sink.sink.lake
            && !views.iter().any(|view| *view == name)
        {
            // Of several sinks that take a stream the first is as good as the others.
            lakes.entry(name.to_owned()).or_insert_with(|| lake.clone());
        }
    }
    lakes
}

impl Catalogue for Tables {
    fn tables(&self) -> Vec<About> {
        let units = |columns: &[Column]| {
            columns.iter().map(|c| c.unit.as_ref().map(|u| u.code().to_owned())).collect()
        };
        let views = self.views.iter().map(|(name, view)| About {
            name: name.clone(),
            kind: "view".to_owned(),
            schema: view.relation().arrow().clone(),
            units: units(view.relation().columns()),
        });
        let lakes = self.lakes.iter().map(|(name, lake)| About {
            name: name.clone(),
            kind: format!("stream, in {}", lake.folder().display()),
            schema: lake.file_schema(),
            units: units(lake.schema().columns()),
        });
        let kept = self.watching.kept.iter().map(|(name, recent)| About {
            name: name.clone(),
            kind: "stream, in memory".to_owned(),
            schema: recent.schema().arrow().clone(),
            units: units(recent.schema().columns()),
        });
        // A pipeline may have called something of its own so.
        let own = self.own.tables().into_iter().filter(|own| !self.has(&own.name));
        let mut tables: Vec<About> = views.chain(lakes).chain(kept).chain(own).collect();
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        tables
    }

    fn snapshot(&self, names: &[String]) -> Result<Option<Snapshot>, String> {
        self.look(names)
    }
}

/// Queries as the server asks them.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Those of everybody.
    pub(crate) queries: Arc<Queries>,
    /// Those of administrators.
    admins: Queries,
}

impl Asked {
    /// Queries over the tables of a plan that runs.
    pub(crate) fn running(
        plan: &Plan,
        views: &[(String, Arc<View>)],
        watching: &Watching,
        figures: &Arc<Figures>,
    ) -> std::io::Result<Self> {
        let tables = || Tables::running(plan, views, watching, figures);
        let folder = plan.data_dir.join("sql");
        let queries = Arc::new(Queries::new(Arc::new(tables()), Limits::default(), &folder)?);
        let admins = queries.over(Arc::new(tables().for_admins()));
        Ok(Asked { queries, admins })
    }
}

impl Ask for Asked {
    fn ask<'a>(
        &'a self,
        sql: &'a str,
        values: &'a [ArrayRef],
        rows: usize,
        is_admin: bool,
    ) -> Pin<Box<dyn Future<Output = Result<Found, NotFound>> + Send + 'a>> {
        Box::pin(async move {
            let queries = if is_admin { &self.admins } else { &*self.queries };
            let answer = queries.ask_for(sql, values, rows).await.map_err(|e| match e {
                QueryError::Refused(Refusal { message, at, help, .. }) => {
                    NotFound::Refused(message, at, help)
                }
                QueryError::Limit(message) => NotFound::Limit(message),
                QueryError::Busy(message) => NotFound::Busy(message),
                QueryError::Unavailable(message) => NotFound::Unavailable(message),
                QueryError::Failed(message) => NotFound::Failed(message),
            })?;
            Ok(Found {
                epoch: answer.epoch,
                schema: answer.schema,
                rows: answer.rows,
                is_truncated: answer.is_truncated,
                time: answer.time,
            })
        })
    }
}
