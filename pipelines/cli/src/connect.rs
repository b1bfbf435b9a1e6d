//! `foreline check --connect`: tries what a pipeline connects to, and says what is there.

use std::sync::mpsc::channel;

use foreline_connectors::{PROBE_TIME, Probe};
use foreline_spec::Plan;

use crate::failure::{Failure, Outcome};

/// Tries every source and sink, one after the other.
///
/// # Errors
/// When one of them cannot be used; which and why was printed.
#[expect(clippy::print_stdout, reason = "this is what was asked for")]
pub fn connect(plan: &Plan) -> Outcome {
    let mut failed = false;
    println!("\nconnections");
    for (what, probe) in probes(plan) {
        match probe.map_or_else(|| Ok("nothing to try".to_owned()), tried) {
            Ok(found) => println!("  {what}: {found}"),
            Err(why) => {
                failed = true;
                println!("  {what}: FAILED: {why}");
            }
        }
    }
    if failed { Err(Failure::Answer) } else { Ok(()) }
}

fn probes(plan: &Plan) -> Vec<(String, Option<Probe>)> {
    let sources = plan
        .sources
        .iter()
        .map(|s| (format!("source {} ({})", s.name, s.kind), s.source.probe.clone()));
    let mut all: Vec<(String, Option<Probe>)> = sources.collect();
    for sink in &plan.sinks {
        let what = format!("sink {} ({})", sink.name, sink.kind);
        // A sink of several streams is one place.
        if !all.iter().any(|(known, _)| *known == what) {
            all.push((what, sink.sink.probe.clone()));
        }
    }
    all
}

/// What a probe says, or that it says nothing in time. One that hangs is left behind; the command ends soon.
fn tried(probe: Probe) -> Result<String, String> {
    let (say, said) = channel();
    std::thread::spawn(move || say.send(probe()));
    let late = |_| Err(format!("no answer within {} s", PROBE_TIME.as_secs()));
    said.recv_timeout(PROBE_TIME).unwrap_or_else(late)
}
