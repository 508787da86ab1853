//! Route lists and request targets: the lines in front of the first empty one are routes, the rest is a target. Which
//! template a path gets is tested in `agent/src/route`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockmeter::route::{Routes, Target};

fuzz_target!(|input: &[u8]| {
    let split = input.windows(2).position(|pair| pair == b"\n\n");
    let (list, target) = match split {
        Some(at) => (&input[..at], &input[at + 2..]),
        None => (&[][..], input),
    };
    let routes = std::str::from_utf8(list).ok().and_then(|list| Routes::parse(list).ok()).unwrap_or_default();
    for status in [None, Some(200), Some(404)] {
        for method in ["GET", "OPTIONS", "CONNECT", "x"] {
            for target in [Target::whole(target), Target::cut(target)] {
                let endpoint = routes.template(method, target, status);
                assert!(!endpoint.as_str().is_empty(), "an endpoint without a name");
                assert!(!endpoint.as_str().contains(['?', '\n']), "{endpoint:?} has more than a path");
            }
        }
    }
});
