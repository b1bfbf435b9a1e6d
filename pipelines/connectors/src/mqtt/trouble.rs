//! What to do when a connection is lost: try again, ever more slowly, or give up with the reason.
//!
//! An absent broker or network is waited for without end. What waiting does not mend (wrong credentials, a second client
//! with our id, packets that are too large or broken) is tried a few times and then ends the source: trying for ever would
//! hide it, and two clients with one id would throw each other out for ever.

use std::io;
use std::time::Duration;

use foreline_engine::SourceError;

use super::session::Lost;

const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// A connection that has lasted so long makes good for the failures before it.
const STABLE: Duration = Duration::from_secs(60);
/// A connection that has lasted so long was a good one, and the next is tried at once.
const GOOD: Duration = Duration::from_secs(5);
/// So many failures of a kind that waiting does not mend.
const TRIES: u32 = 5;
/// So many connections in a row that were closed without a word before they were [`GOOD`], which brokers do when another
/// client has the id (those of MQTT 5 may say it), but also when they are stopped.
const TRIES_CLOSED: u32 = 8;

/// What went wrong lately.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Failures since the last good connection.
    failures: u32,
    refused: u32,
    taken_over: u32,
    closed: u32,
    broken: u32,
}

/// What to do.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Wait so long and connect again.
    Wait(Duration),
    /// Nothing more can be done.
    GiveUp(SourceError),
}

impl Trouble {
    /// What to do after `lost`. `lasted` is how long the connection stood, if it did; `dice` is some number that differs
    /// from client to client, so that they do not all come back at once.
    pub(super) fn judge(
        &mut self,
        lost: &Lost,
        lasted: Option<Duration>,
        broker: &str,
        client_id: &str,
        dice: u64,
    ) -> Verdict {
        if lasted.is_some_and(|l| l >= STABLE) {
            *self = Trouble::default();
        }
        if lasted.is_some_and(|l| l >= GOOD) {
            (self.failures, self.closed) = (0, 0);
        }
        if lasted.is_some() {
            self.refused = 0;
        } else {
            self.closed = 0;
        }
        self.failures += 1;
        let failed = self.count(lost, lasted, client_id);
        match failed {
            Some(why) => Verdict::GiveUp(SourceError::Io(format!("the broker '{broker}' {why}"))),
            None => Verdict::Wait(self.wait(dice)),
        }
    }

    /// Counts a failure; why to give up, if it is time for that.
    fn count(&mut self, lost: &Lost, lasted: Option<Duration>, client_id: &str) -> Option<String> {
        let up = |n: &mut u32, tries| {
            *n += 1;
            *n >= tries
        };
        match lost {
            Lost::Refused(why) => up(&mut self.refused, TRIES)
                .then(|| format!("refuses the connection: {why}; look at `username`, `password` and `client_id`")),
            Lost::Untrusted(why) => up(&mut self.refused, TRIES)
                .then(|| format!("and we do not trust each other: {why}; look at `tls`, whose `ca` is to vouch for the broker")),
            Lost::TakenOver => up(&mut self.taken_over, TRIES).then(|| {
                format!("says that another client uses the client id '{client_id}'; give each its own `client_id`")
            }),
            Lost::Closed(_) if lasted.is_some_and(|l| l < GOOD) => {
                up(&mut self.closed, TRIES_CLOSED).then(|| {
                    format!(
                        "closes each connection soon after it stands; another client probably uses the client id '{client_id}'"
                    )
                })
            }
            Lost::TooLarge(bytes) => up(&mut self.broken, TRIES).then(|| {
                format!("sends a packet of {bytes} bytes, which is too large; raise `max_packet_bytes`")
            }),
            Lost::Protocol(what) => {
                up(&mut self.broken, TRIES).then(|| format!("does not keep to the protocol: {what}"))
            }
            Lost::Closed(_) | Lost::Network(_) | Lost::Left => None,
        }
    }

    /// Twice as long as the time before, up to the limit; a quarter of it by chance.
    fn wait(&self, dice: u64) -> Duration {
        let doubled = WAIT_MIN.saturating_mul(1 << (self.failures.saturating_sub(1)).min(16));
        let wait = doubled.min(WAIT_MAX);
        wait - (wait / 4).mul_f64((dice % 1000) as f64 / 1000.0)
    }
}

/// What an error of input or output means. Rustls reports what is wrong with a certificate as invalid data.
pub(super) fn of_io(error: &io::Error) -> Lost {
    let text = error.to_string();
    match error.kind() {
        io::ErrorKind::InvalidData => Lost::Untrusted(text),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Lost::Closed(text),
        _ => Lost::Network(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lost: &Lost, lasted: Option<u64>, times: u32) -> (Vec<Duration>, Option<String>) {
        let mut trouble = Trouble::default();
        let mut waits = Vec::new();
        for _ in 0..times {
            match trouble.judge(lost, lasted.map(Duration::from_secs), "b", "c", 999) {
                Verdict::Wait(wait) => waits.push(wait),
                Verdict::GiveUp(error) => return (waits, Some(error.to_string())),
            }
        }
        (waits, None)
    }

    #[test]
    fn an_absent_broker_is_waited_for_without_end() {
        let (waits, error) = after(&Lost::Network("no route".to_owned()), None, 1000);
        assert_eq!((waits.len(), error), (1000, None));
        assert!(waits[0] < Duration::from_millis(101) && waits[999] <= WAIT_MAX);
        assert!(waits.iter().zip(&waits[1..]).all(|(a, b)| a <= b));
    }

    #[test]
    fn clients_do_not_all_come_back_at_once() {
        let lost = Lost::Network("gone".to_owned());
        let wait = |dice| match Trouble::default().judge(&lost, None, "b", "c", dice) {
            Verdict::Wait(wait) => wait,
            Verdict::GiveUp(error) => panic!("{error}"),
        };
        assert_eq!(wait(0), WAIT_MIN);
        assert!(wait(999) < wait(500) && wait(500) < wait(0) && wait(999) >= WAIT_MIN * 3 / 4);
    }

    #[test]
    fn a_network_that_cuts_now_and_then_is_lived_with() {
        let closed = Lost::Closed("cut".to_owned());
        assert_eq!(after(&closed, Some(GOOD.as_secs()), 1000).1, None);
    }

    #[test]
    fn what_waiting_does_not_mend_ends_with_its_name() {
        let cases = [
            (Lost::Refused("NotAuthorized".to_owned()), None, "NotAuthorized"),
            (Lost::TakenOver, Some(1), "another client uses the client id 'c'"),
            (Lost::Closed(String::new()), Some(1), "probably uses the client id 'c'"),
            (Lost::TooLarge(7), Some(1), "raise `max_packet_bytes`"),
            (Lost::Protocol("bad".to_owned()), Some(1), "does not keep to the protocol"),
        ];
        for (lost, lasted, text) in cases {
            let error = after(&lost, lasted, 20).1.unwrap();
            assert!(error.contains(text), "{error}");
            assert_eq!(
                after(&lost, lasted.map(|_| 61), 100).1.is_some(),
                lasted.is_none(),
                "{lost:?}"
            );
        }
    }
}
