//! Messages as they lie in the journal, one after the other: what a replay needs, and nothing else.
//!
//! A frame is `received_ns: i64`, `flags: u8`, `records: u32`, `whole_bytes: u32`, the topic behind its `u16` length, a `u8`
//! number of properties with name and value behind `u16` lengths, and the payload behind its `u32` length; all
//! little-endian. The number of positions is kept with the message, so that it stays what it was when counting changes.

/// The message was retained by the broker.
const RETAINED: u8 = 1;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// When it arrived, in nanoseconds of UTC.
    pub(super) received_ns: i64,
    pub(super) is_retained: bool,
    /// How many positions it takes.
    pub(super) records: u32,
    /// How long the payload was; more than there is of it when it was longer than it may be.
    pub(super) whole_bytes: u32,
    pub(super) topic: &'a str,
    /// User properties that columns are read from, by name.
    pub(super) properties: Vec<(&'a str, &'a str)>,
    pub(super) payload: &'a [u8],
}

/// Most user properties of a message that are kept.
pub(super) const PROPERTIES_MAX: usize = 255;

impl<'a> Frame<'a> {
    /// Appends the frame to `to`. A name or value of a property is cut at 65,535 bytes, as MQTT does.
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.received_ns.to_le_bytes());
        to.push(if self.is_retained { RETAINED } else { 0 });
        to.extend(self.records.to_le_bytes());
        to.extend(self.whole_bytes.to_le_bytes());
        write_short(self.topic.as_bytes(), to);
        let properties = &self.properties[..self.properties.len().min(PROPERTIES_MAX)];
        to.push(u8::try_from(properties.len()).unwrap_or(u8::MAX));
        for (name, value) in properties {
            write_short(name.as_bytes(), to);
            write_short(value.as_bytes(), to);
        }
        to.extend(u32::try_from(self.payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        to.extend(self.payload);
    }

    /// Takes the first frame off `from`; `None` when there is no whole one.
    pub(super) fn read(from: &mut &'a [u8]) -> Option<Self> {
        let received_ns = i64::from_le_bytes(take_array(from)?);
        let [flags] = take_array(from)?;
        let records = u32::from_le_bytes(take_array(from)?);
        let whole_bytes = u32::from_le_bytes(take_array(from)?);
        let topic = read_short(from)?;
        let [n_properties] = take_array(from)?;
        let mut properties = Vec::with_capacity(usize::from(n_properties));
        for _ in 0..n_properties {
            properties.push((read_short(from)?, read_short(from)?));
        }
        let n_bytes = u32::from_le_bytes(take_array(from)?);
        let payload = take(from, usize::try_from(n_bytes).ok()?)?;
        let is_retained = flags & RETAINED != 0;
        Some(Frame { received_ns, is_retained, records, whole_bytes, topic, properties, payload })
    }
}

fn write_short(text: &[u8], to: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    to.extend(length.to_le_bytes());
    to.extend(&text[..usize::from(length)]);
}

fn read_short<'a>(from: &mut &'a [u8]) -> Option<&'a str> {
    let length = u16::from_le_bytes(take_array(from)?);
    std::str::from_utf8(take(from, usize::from(length))?).ok()
}

fn take_array<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = from.split_first_chunk::<N>()?;
    *from = rest;
    Some(*taken)
}

fn take<'a>(from: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(n)?;
    *from = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            received_ns in any::<i64>(), is_retained in any::<bool>(), records in any::<u32>(),
            topic in ".{0,20}", name in ".{0,9}", value in ".{0,9}", payload in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let properties = vec![(&*name, &*value)];
            let frame = Frame {
                received_ns, is_retained, records, whole_bytes: 7, topic: &topic, properties, payload: &payload,
            };
            let mut bytes = Vec::new();
            frame.write(&mut bytes);
            frame.write(&mut bytes);
            let mut rest = &bytes[..];
            prop_assert_eq!(Frame::read(&mut rest), Some(frame.clone()));
            prop_assert_eq!(Frame::read(&mut rest), Some(frame));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &bytes[..];
            while Frame::read(&mut rest).is_some() {}
        }
    }
}
