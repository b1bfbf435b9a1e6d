//! What `foreline check --connect` says of files: which there are, and whether they can be read.

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use super::files;
use super::plan::Plan;

/// Most files of which the beginning is read; the others are only counted.
const FILES_READ_MAX: usize = 100;

/// Looks for the files and reads the header of the first of them.
pub(super) fn probe(plan: &Arc<Plan>) -> Result<String, String> {
    let paths = files::paths(plan).map_err(|e| e.to_string())?;
    let place = &plan.place.written;
    let Some(first) = paths.first() else {
        return match plan.follow {
            Some(_) => Ok(format!("no file matches '{place}' yet")),
            None => Err(format!("no file matches '{place}'")),
        };
    };
    for path in paths.iter().take(FILES_READ_MAX) {
        let read = File::open(path).and_then(|file| file.take(1).read(&mut [0]));
        read.map_err(|e| format!("cannot read '{}': {e}", path.display()))?;
    }
    files::TextFile::look_at(plan, first).map_err(|e| e.to_string())?;
    let more = if paths.len() > 1 { ", ..." } else { "" };
    Ok(format!("{} files can be read: '{}'{more}", paths.len(), first.display()))
}
