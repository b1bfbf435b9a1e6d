//! Whether all messages of an edge node have come since its birth, and how it is asked to be born again.
//!
//! An edge node counts its messages from its birth on, modulo 256, those of its devices included (Sparkplug 3.0, 6.4). A
//! host application that has missed one, or has never seen the birth, asks for it with the command
//! `Node Control/Rebirth`. Messages that a broker sends again are out of turn and mean nothing.

use prost::Message as _;

use super::message::{Metric, MetricValue, Payload};

/// The command to be born again, a boolean metric.
const REBIRTH: &str = "Node Control/Rebirth";
/// The number of the type boolean.
const BOOLEAN: u32 = 11;
/// An edge node is not asked again for so long: being born takes it a while, and each birth costs all who listen.
const PAUSE_NS: u64 = 10_000_000_000;
const NANOS_PER_MILLISECOND: i64 = 1_000_000;

/// What is known of the messages of one edge node.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// The number that comes next; `None` when no birth is known.
    next: Option<u8>,
    /// Whether something is missing since the last birth.
    has_gap: bool,
    asked_ns: Option<i64>,
}

impl Sequence {
    /// Takes in the number of a birth of the edge node itself, with which counting begins.
    pub(super) fn begin(&mut self, number: Option<u64>) {
        self.next = Some(low(number).unwrap_or(0).wrapping_add(1));
        self.has_gap = false;
    }

    /// Takes in the number of another message.
    pub(super) fn go_on(&mut self, number: Option<u64>, is_repeated: bool) {
        let Some(number) = low(number) else { return };
        let is_next = self.next == Some(number);
        if self.next.is_some() && (is_next || !is_repeated) {
            self.has_gap |= !is_next;
            self.next = Some(number.wrapping_add(1));
        }
    }

    /// Notes that a device, or the edge node, says something that no birth has announced.
    pub(super) fn lacks_birth(&mut self) {
        self.has_gap = true;
    }

    /// Whether the edge node is to be asked now.
    pub(super) fn asks(&mut self, now_ns: i64) -> bool {
        let is_missing = self.has_gap || self.next.is_none();
        // A clock that was set back must not silence it for long.
        let is_soon = |asked: i64| now_ns.abs_diff(asked) < PAUSE_NS;
        let asks = is_missing && !self.asked_ns.is_some_and(is_soon);
        if asks {
            self.asked_ns = Some(now_ns);
        }
        asks
    }
}

fn low(number: Option<u64>) -> Option<u8> {
    u8::try_from(number?).ok()
}

/// The payload of the command.
pub(super) fn command(now_ns: i64) -> Vec<u8> {
    let timestamp = u64::try_from(now_ns / NANOS_PER_MILLISECOND).ok();
    let metric = Metric {
        name: Some(REBIRTH.to_owned()),
        alias: None,
        timestamp,
        datatype: Some(BOOLEAN),
        is_null: None,
        value: Some(MetricValue::Boolean(true)),
    };
    Payload { timestamp, metrics: vec![metric], seq: None }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn a_gap_is_asked_about_until_the_next_birth_and_not_too_often() {
        let mut sequence = Sequence::default();
        assert!(sequence.asks(0), "no birth is known");
        assert!(!sequence.asks(9 * SECOND), "it has just been asked");
        assert!(sequence.asks(10 * SECOND) && sequence.asks(-10 * SECOND));
        sequence.begin(Some(254));
        for number in [255, 0, 1] {
            sequence.go_on(Some(number), false);
        }
        assert!(!sequence.asks(100 * SECOND), "nothing is missing");
        sequence.go_on(Some(3), false);
        assert!(sequence.asks(100 * SECOND), "2 is missing");
        sequence.go_on(Some(4), false);
        assert!(sequence.asks(111 * SECOND), "it has not been born since");
        sequence.begin(Some(0));
        assert!(!sequence.asks(200 * SECOND));
    }

    #[test]
    fn what_is_sent_again_is_no_gap() {
        let mut sequence = Sequence::default();
        sequence.begin(Some(0));
        for (number, is_repeated) in [(1, false), (2, false), (1, true), (3, true), (4, false)] {
            sequence.go_on(Some(number), is_repeated);
        }
        sequence.go_on(None, false);
        assert!(!sequence.asks(0));
        sequence.lacks_birth();
        assert!(sequence.asks(0));
    }
}
