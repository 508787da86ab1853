//! Which form of the page a request asks for, by its `Accept`, `Accept-Encoding` and query (RFC 9110 section 12.5).

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, HeaderName};

use super::{Format, MetricsWanted};

/// What a request for the metrics asks for.
pub(super) fn wanted(headers: &HeaderMap, query: Option<&str>) -> MetricsWanted {
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    MetricsWanted {
        format: format(headers),
        families: pairs.filter(|(key, _)| key == "name[]").map(|(_, value)| value.into_owned()).collect(),
    }
}

/// OpenMetrics only for those who name it and like it best; whoever is vague, or wants what we
/// do not have, gets text, as every Prometheus exporter does.
fn format(headers: &HeaderMap) -> Format {
    // Of two that are liked equally the first one counts, as in Prometheus' own negotiation.
    let mut best = (Format::Text, 0.0);
    for range in ranges(headers, &ACCEPT) {
        let version = range.parameter("version");
        let format = match range.name.as_str() {
            "application/openmetrics-text" if version.is_none_or(|version| version == "1.0.0") => Format::OpenMetrics,
            "text/plain" if version.is_none_or(|version| version == "0.0.4") => Format::Text,
            "text/*" | "*/*" => Format::Text,
            _ => continue,
        };
        if range.quality > best.1 {
            best = (format, range.quality);
        }
    }
    best.0
}

/// Whether the answer may be compressed with gzip.
pub(super) fn gzip(headers: &HeaderMap) -> bool {
    let ranges = ranges(headers, &ACCEPT_ENCODING);
    let quality = |name: &str| ranges.iter().find(|range| range.name == name).map(|range| range.quality);
    let gzip = quality("gzip").or_else(|| quality("x-gzip")).or_else(|| quality("*")).unwrap_or(0.0);
    gzip > 0.0 && quality("identity").is_none_or(|identity| gzip >= identity)
}

/// One element of such a list.
struct Range {
    name: String,
    parameters: Vec<(String, String)>,
    quality: f32,
}

impl Range {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

fn ranges(headers: &HeaderMap, name: &HeaderName) -> Vec<Range> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(range).collect()
}

fn range(text: &str) -> Range {
    let mut words = text.split(';').map(str::trim);
    let name = words.next().unwrap_or_default().to_ascii_lowercase();
    let parameters: Vec<(String, String)> = words
        .filter_map(|word| word.split_once('='))
        .map(|(key, value)| (key.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_owned()))
        .collect();
    let quality = parameters.iter().find(|(key, _)| key == "q");
    let quality = quality.map_or(1.0, |(_, value)| value.parse().unwrap_or(0.0));
    Range { name, parameters, quality }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn the_format_is_the_one_that_is_liked_best() {
        for (accept, wanted) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("image/png", Format::Text),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("application/openmetrics-text; version=0.0.1", Format::Text),
            ("application/openmetrics-text;q=0", Format::Text),
            ("text/plain;q=0.9, application/openmetrics-text;q=0.8", Format::Text),
            ("text/plain, application/openmetrics-text", Format::Text),
            ("application/openmetrics-text, text/plain", Format::OpenMetrics),
            ("*/*;q=0.1, Application/OpenMetrics-Text; Version=\"1.0.0\"", Format::OpenMetrics),
            // Prometheus 2.42 and 3.5.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                 application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                Format::OpenMetrics,
            ),
            // Prometheus with `scrape_protocols: [PrometheusText0.0.4, OpenMetricsText1.0.0]`.
            ("text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.4", Format::Text),
        ] {
            assert_eq!(format(&headers(ACCEPT, accept)), wanted, "{accept}");
        }
    }

    #[test]
    fn gzip_is_for_those_who_accept_it() {
        for (accept, wanted) in [
            ("", false),
            ("gzip", true),
            ("deflate, gzip;q=0.5", true),
            ("*", true),
            ("gzip;q=0, *", false),
            ("identity, gzip;q=0.5", false),
            ("br, zstd", false),
        ] {
            assert_eq!(gzip(&headers(ACCEPT_ENCODING, accept)), wanted, "{accept}");
        }
    }

    #[test]
    fn families_come_from_the_query_however_it_is_escaped() {
        let wanted = |query: &str| wanted(&HeaderMap::new(), Some(query)).families;
        assert_eq!(wanted("name[]=a&name%5B%5D=b_c&other=d"), ["a", "b_c"]);
        assert_eq!(wanted(""), Vec::<String>::new());
    }
}
