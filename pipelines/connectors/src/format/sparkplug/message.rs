//! The messages of Sparkplug B, as far as rows are made from them.
//!
//! After `sparkplug_b.proto` of the Eclipse Sparkplug specification 3.0, section 6.4. Fields that are left out (metadata,
//! properties, data sets, templates) are passed over when a payload is read.

use crate::record::Form;

/// What one message holds.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Payload {
    /// Milliseconds since 1970, for metrics that have none.
    #[prost(uint64, optional, tag = "1")]
    pub(crate) timestamp: Option<u64>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) metrics: Vec<Metric>,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) seq: Option<u64>,
}

/// One measured value.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Metric {
    #[prost(string, optional, tag = "1")]
    pub(crate) name: Option<String>,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) alias: Option<u64>,
    /// Milliseconds since 1970.
    #[prost(uint64, optional, tag = "3")]
    pub(crate) timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "4")]
    pub(crate) datatype: Option<u32>,
    #[prost(bool, optional, tag = "7")]
    pub(crate) is_null: Option<bool>,
    #[prost(oneof = "MetricValue", tags = "10, 11, 12, 13, 14, 15, 16")]
    pub(crate) value: Option<MetricValue>,
}

/// A value as it is sent.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum MetricValue {
    #[prost(uint32, tag = "10")]
    Int(u32),
    #[prost(uint64, tag = "11")]
    Long(u64),
    #[prost(float, tag = "12")]
    Float(f32),
    #[prost(double, tag = "13")]
    Double(f64),
    #[prost(bool, tag = "14")]
    Boolean(bool),
    #[prost(string, tag = "15")]
    String(String),
    #[prost(bytes = "vec", tag = "16")]
    Bytes(Vec<u8>),
}

/// The types whose values are not what they are sent as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataType {
    Int8,
    Int16,
    Int32,
    Int64,
    DateTime,
    /// Numbers as bytes: an array, or bytes, which are taken for what arrays of samples mostly are.
    Packed(Form),
    /// An array of what is no number.
    OtherArray,
}

impl DataType {
    /// The type with a number.
    pub(super) fn of(number: u32) -> Option<Self> {
        Some(match number {
            1 => DataType::Int8,
            2 => DataType::Int16,
            3 => DataType::Int32,
            4 => DataType::Int64,
            13 => DataType::DateTime,
            17 => DataType::Packed(Form::F32),
            22 => DataType::Packed(Form::I8),
            23 => DataType::Packed(Form::I16),
            24 => DataType::Packed(Form::I32),
            25 => DataType::Packed(Form::I64),
            26 => DataType::Packed(Form::U8),
            27 => DataType::Packed(Form::U16),
            28 => DataType::Packed(Form::U32),
            29 => DataType::Packed(Form::U64),
            30 => DataType::Packed(Form::F32),
            31 => DataType::Packed(Form::F64),
            32..=34 => DataType::OtherArray,
            _ => return None,
        })
    }
}
