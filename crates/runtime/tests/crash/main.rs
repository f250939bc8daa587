//! L1: servers, forkservers and process 1 are killed at random moments of a mixed load; whatever was
//! acknowledged is found again, nothing is lost, doubled or left over.
//!
//! `MAYFLY_TEST_SEED` repeats a run, `MAYFLY_TEST_SCALE=full` kills 200 times instead of 10.

#[cfg(test)]
#[path = "../isolation/census.rs"]
mod census;
#[cfg(test)]
mod dice;
#[cfg(test)]
mod load;
#[cfg(test)]
mod model;
#[cfg(test)]
mod server;

#[cfg(test)]
mod tests {
    use crate::load::Load;

    #[test]
    fn l1_no_kill_loses_doubles_or_leaves_anything() {
        let full = std::env::var("MAYFLY_TEST_SCALE").is_ok_and(|scale| scale == "full");
        let seed = std::env::var("MAYFLY_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) << 20 | 1);
        println!("MAYFLY_TEST_SEED={seed}");
        let mut load = Load::start(seed);
        for _ in 0..if full { 200 } else { 10 } {
            load.strike();
        }
        load.end();
    }

    /// Not a test: the server that the test above starts and kills.
    #[test]
    fn server() {
        if let Some(folder) = std::env::var_os(crate::server::FOLDER) {
            crate::server::serve(folder.as_ref());
        }
    }
}
