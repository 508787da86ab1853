//! The page that Prometheus reads, in both its formats. What the numbers are is decided in `model`; families of another
//! exporter come from `upstream`.
//!
//! The encoder is our own because the existing one for Rust writes `le="1000000"` where the dashboards say
//! `le="1e+06"`, and has no OpenMetrics. `catalog` lists the families, `page` orders them, `samples` writes them;
//! `accounts` fills them.

pub mod accounts;
pub mod catalog;
mod escape;
mod family;
mod number;
mod page;
mod samples;
#[cfg(test)]
pub(crate) mod strict;

pub use self::family::{Family, Kind};
pub use self::number::Number;
pub use self::page::Page;
pub use self::samples::Samples;

pub(crate) use self::escape::{push_help, push_label_value};
pub(crate) use self::number::{push_bound, push_float};

/// The format of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text, version 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The value of the `Content-Type` field.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

#[cfg(test)]
mod tests;
