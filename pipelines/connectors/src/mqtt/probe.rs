//! `check --connect`: whether the brokers take us, and what they grant.
//!
//! It comes under a client id of its own, with a session that ends with its connection: a run that is at work, and what
//! the broker keeps for it, are left alone. What arrives meanwhile is not looked at.

use std::time::Duration;

use super::Version;
use super::network::told;
use super::plan::Plan;
use super::session::{Heard, Lost, Session, Settings};
use super::tls;
use super::v4::V4;
use super::v5::V5;
use crate::kind::PROBE_TIME;

/// How long to wait for a broker: a little less than whoever asked does.
const PATIENCE: Duration = PROBE_TIME.saturating_sub(Duration::from_secs(2));
/// How long a goodbye may take.
const LEAVE: Duration = Duration::from_millis(500);

/// Connects to every broker and asks for the subscriptions, then leaves.
///
/// # Errors
/// What is wrong with each broker that cannot be used.
pub(super) fn probe(plan: &Plan) -> Result<String, String> {
    let plan = plan.apart("check", plan.qos);
    let needed = plan.brokers.iter().any(|b| b.is_tls);
    let tls = needed.then(|| tls::configuration(&plan.tls)).transpose();
    let tls = tls.map_err(|e| e.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("no thread for the network: {e}"))?;
    let all = plan.brokers.iter().map(|broker| {
        let settings = Settings::new(&plan, broker, tls.clone());
        async move {
            match with_version(plan.version, &settings).await {
                Ok(()) => Ok(()),
                Err(why) => Err(format!("'{}': {why}", settings.broker)),
            }
        }
    });
    let answers = runtime.block_on(futures_util::future::join_all(all));
    let wrong: Vec<String> = answers.into_iter().filter_map(Result::err).collect();
    if !wrong.is_empty() {
        return Err(wrong.join("; "));
    }
    let (brokers, topics) = (plan.brokers.len(), plan.templates.len());
    Ok(format!("{brokers} brokers take us, and grant {topics} topics"))
}

async fn with_version(version: Version, settings: &Settings) -> Result<(), String> {
    let asked = async {
        match version {
            Version::V4 => ask::<V4>(settings).await,
            Version::V5 => ask::<V5>(settings).await,
        }
    };
    let answered = tokio::time::timeout(PATIENCE, asked).await;
    answered.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())))
}

/// Connects, subscribes and leaves.
async fn ask<S: Session>(settings: &Settings) -> Result<(), String> {
    let mut session = S::open(settings);
    let mut verdict = None;
    loop {
        match session.next().await {
            Ok(Heard::Connected { .. }) => session.subscribe(settings),
            Ok(Heard::Subscribed(answers)) => {
                verdict = Some(granted(settings, answers));
                session.leave(LEAVE);
            }
            Ok(Heard::Message(_) | Heard::Other) => {}
            Err(lost) => return verdict.unwrap_or_else(|| Err(advised(settings, &lost))),
        }
    }
}

fn granted(settings: &Settings, answers: Vec<Result<u8, String>>) -> Result<(), String> {
    for (filter, answer) in settings.filters.iter().zip(answers) {
        match answer {
            Ok(qos) if qos < settings.qos => {
                return Err(format!(
                    "it grants '{filter}' with qos {qos} only; write `qos: {qos}`"
                ));
            }
            Ok(_) => {}
            Err(why) => return Err(format!("no subscription to '{filter}': {why}")),
        }
    }
    Ok(())
}

/// What is wrong, and where to look.
fn advised(settings: &Settings, lost: &Lost) -> String {
    let said = told(lost);
    let id = &settings.client_id;
    match lost {
        Lost::Refused(_) => format!(
            "{said}; look at `username` and `password` (this was tried with the client id '{id}')"
        ),
        Lost::Untrusted(_) => {
            format!("{said}; look at `tls`, whose `ca` is to vouch for the broker")
        }
        Lost::Closed(_) if settings.broker.is_tls => {
            format!("{said}; it may not speak TLS at this port (mqtt://)")
        }
        Lost::Closed(_) => format!("{said}; it may want TLS at this port (mqtts://)"),
        Lost::Network(_) => format!("{said}; look at `urls`"),
        _ => said,
    }
}
