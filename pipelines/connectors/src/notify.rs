//! What the sinks that tell people have in common: `webhook`, `mqtt`, `email`, and of it a little for `log`.
//!
//! ```text
//! write    each row becomes a message: JSON, a subject and a text, an id that stays the same
//! commit   the messages of the epochs and the last epoch are one record of the spool: append, fsync
//! deliver  a thread of its own: pace, send, mark as delivered (append, fsync)
//! ```
//!
//! What a reader would get wrong:
//!
//! * The epoch is committed when the spool has it, not when the receiver has: a receiver that is down holds up nothing until
//!   the spool is full.
//! * **At least once.** A crash between the receiver's answer and the mark has the notice go out again, with the same id.
//! * What goes out together is written down before it is sent for the first time, so that it comes again as the same notice.
//! * A message is dropped only when the receiver refuses it for good, or after `give_up_after`; then it is counted and logged.

use std::path::Path;
use std::sync::Arc;

use foreline_engine::{ConfigError, Resolver, Sink, SinkError};

use crate::kind::{PlannedSink, Probe, SinkInputs};

mod cells;
mod courier;
pub(crate) mod message;
pub(crate) mod options;
mod pace;
mod quiet;
mod sink;
mod spool;
mod template;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use courier::{Channel, Outcome};
pub(crate) use message::{Composer, Notice, Origin};
pub(crate) use options::{Common, Rules, texts};
pub(crate) use options::{GroupConfig, QuietConfig, RateConfig, TemplateConfig};
pub(crate) use sink::NotifySink;
pub(crate) use template::{Template, level};

/// Declares the configuration of a kind of sink that tells people: its own options and those in common.
///
/// `#[serde(flatten)]` would do the same, but it does not go with `deny_unknown_fields`, and errors lose their place.
macro_rules! notify_config {
    ($(#[$meta:meta])* $name:ident { $($(#[$own:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$own])* pub $field: $kind,)*
            /// The folder, relative to the pipeline file, for what waits to be delivered. It lasts: what is there goes out with
            /// the next run. Each stream has a sub-folder.
            pub spool: std::path::PathBuf,
            /// Most bytes that wait there. When it is full the sink takes no more, and the pipeline's backlog waits. Default
            /// 67108864, at least 1048576.
            #[serde(default = "crate::notify::spool_limit")]
            pub spool_limit: u64,
            /// A message that could not be delivered for so long is given up, counted and logged. Default `24h`.
            #[serde(default = "crate::notify::one_day")]
            pub give_up_after: foreline_engine::Extent,
            /// How long the receiver may take to answer. Default `10s`.
            #[serde(default = "crate::notify::ten_seconds")]
            pub timeout: foreline_engine::Extent,
            /// How many messages go out at most. Default: as many as there are.
            #[serde(default)]
            pub rate: Option<crate::notify::RateConfig>,
            /// Messages that go out as one.
            #[serde(default)]
            pub group: Option<crate::notify::GroupConfig>,
            /// Hours in which messages wait.
            #[serde(default)]
            pub quiet: Option<crate::notify::QuietConfig>,
            /// Texts for people.
            #[serde(default)]
            pub template: crate::notify::TemplateConfig,
        }

        impl $name {
            pub(crate) fn common(&self) -> crate::notify::Common<'_> {
                crate::notify::Common {
                    rate: self.rate.as_ref(),
                    group: self.group.as_ref(),
                    quiet: self.quiet.as_ref(),
                    template: &self.template,
                    spool: &self.spool,
                    spool_limit: self.spool_limit,
                    give_up_after: self.give_up_after,
                    timeout: self.timeout,
                }
            }
        }
    };
}
pub(crate) use notify_config;

pub(crate) fn spool_limit() -> u64 {
    64 << 20
}

pub(crate) fn one_day() -> foreline_engine::Extent {
    foreline_engine::Extent::Nanos(86_400_000_000_000)
}

pub(crate) fn ten_seconds() -> foreline_engine::Extent {
    foreline_engine::Extent::Nanos(10_000_000_000)
}

/// Makes what delivers; it may read certificates, and connects to nothing.
pub(crate) type MakeChannel = Arc<dyn Fn() -> Result<Box<dyn Channel>, String> + Send + Sync>;

/// What a kind of sink adds to what they have in common.
pub(crate) struct Kind {
    /// The receiver, as people call it; without secrets.
    pub(crate) receiver: String,
    pub(crate) channel: MakeChannel,
    pub(crate) notes: Vec<String>,
    pub(crate) probe: Option<Probe>,
}

/// Puts a sink together.
pub(crate) fn planned(
    kind: Kind,
    rules: Rules,
    spool: &Path,
    inputs: &SinkInputs<'_>,
    given: &dyn Resolver,
) -> PlannedSink {
    let origin = origin(inputs);
    let folder = given.path(spool).join(&origin.sink).join(&origin.stream);
    let mut notes = vec![format!(
        "at least once: after a crash a message may come again, with the same id; what cannot be delivered waits in '{}'",
        folder.display()
    )];
    notes.extend(kind.notes);
    let place = kind.receiver;
    let composer = composer(inputs, &rules);
    let channel = kind.channel;
    let make = move || {
        let channel = channel().map_err(SinkError::Fatal)?;
        let sink = NotifySink::new(composer.clone(), rules.clone(), folder.clone(), channel);
        Ok(Box::new(sink) as Box<dyn Sink>)
    };
    PlannedSink {
        make: Arc::new(make),
        place,
        transactional: false,
        sql: None,
        notes,
        probe: kind.probe,
        lake: None,
    }
}

/// Where the messages of a sink come from.
pub(crate) fn origin(inputs: &SinkInputs<'_>) -> Origin {
    Origin {
        pipeline: inputs.pipeline.to_owned(),
        sink: inputs.sink.to_owned(),
        stream: inputs.stream.to_owned(),
    }
}

fn composer(inputs: &SinkInputs<'_>, rules: &Rules) -> Composer {
    Composer {
        origin: origin(inputs),
        schema: inputs.schema.clone(),
        texts: rules.texts.clone(),
        group_by: rules.group_by.clone(),
        severity: message::severity_column(inputs.schema),
        gone: message::gone_column(inputs.schema),
    }
}

/// Whether a name means this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback())
}

/// Whether somebody listens at an address; nothing is sent.
pub(crate) fn reach(host: &str, port: u16) -> Result<String, String> {
    use std::net::{TcpStream, ToSocketAddrs as _};
    let failed = |e: std::io::Error| format!("cannot reach {host}:{port}: {e}");
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let mut last = None;
    for address in (bare, port).to_socket_addrs().map_err(failed)?.take(2) {
        match TcpStream::connect_timeout(&address, crate::kind::PROBE_TIME / 3) {
            Ok(_) => return Ok(format!("{host}:{port} answers; nothing was sent")),
            Err(e) => last = Some(e),
        }
    }
    Err(last.map_or_else(|| format!("{host} has no address"), failed))
}

/// What is wrong with an option, alone.
pub(crate) fn mistake(at: &str, message: impl Into<String>, help: &str) -> ConfigError {
    ConfigError::new(at, message).help(help)
}
