//! Configuration files: each is taken or refused with a sentence, and what is taken can be shown. What each key means is
//! tested in `agent/src/config`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockmeter::config::{Configuration, Input, refuse_unavailable, show};

fuzz_target!(|text: &str| {
    // A key may name a file: not one that never ends.
    if text.contains("dev") || text.contains("proc") || text.contains('\\') {
        return;
    }
    let Ok(input) = toml::from_str::<Input>(text) else {
        return;
    };
    let configuration = Configuration { file: None, environment: input, flags: Input::default() };
    match configuration.load() {
        Ok(effective) => {
            assert!(!show(&effective).is_empty());
            if let Err(error) = refuse_unavailable(&effective.settings) {
                assert!(!error.to_string().is_empty());
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
