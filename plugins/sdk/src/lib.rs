//! foreline-sdk.
