//! Other exporters' pages: whatever they say, no family comes twice and no name is one of ours. What a good page becomes
//! is tested in `agent/src/upstream`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockmeter::exposition::Format;
use sockmeter::upstream::{Taken, merge};

fuzz_target!(|page: &[u8]| {
    for format in [Format::Text, Format::OpenMetrics] {
        let ours = Taken::ours(["scheduler"], true, true);
        let mut taken = ours.clone();
        let merged = merge(page, &mut taken, format);
        for family in &merged.families {
            assert!(!ours.contains(&family.name), "{} is ours", family.name);
        }
        for pair in merged.families.windows(2) {
            assert!(pair[0].name < pair[1].name, "{} and {}", pair[0].name, pair[1].name);
        }
    }
});
