//! Gives inputs of the fuzzer to the body named by `MAYFLY_TEST_BODY`; without the name, lists all bodies.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: choose(), |data: &[u8]| {
    if let Some(body) = CHOSEN.get() {
        body(data);
    }
});

static CHOSEN: OnceLock<fn(&[u8])> = OnceLock::new();

fn choose() {
    let bodies = mayfly::fuzz::everything();
    let wanted = std::env::var("MAYFLY_TEST_BODY").unwrap_or_default();
    match bodies.iter().find(|(name, _)| *name == wanted) {
        Some((_, body)) => drop(CHOSEN.set(*body)),
        None => {
            for (name, _) in bodies {
                println!("{name}");
            }
            std::process::exit(0);
        }
    }
}
