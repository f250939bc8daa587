//! Runs fuzz bodies on stable Rust: on their committed seeds, then on mutations of them until the time is up.
//!
//! A body is a plain function that asserts what must hold of any bytes. The same bodies run under a coverage
//! guided fuzzer in soak; whatever input breaks one, there or here, is kept as a file, and this replays it:
//! `MAYFLY_TEST_INPUT=<file> cargo nextest run -p <crate> fuzz`, which gives it to the body in the file's name.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::SeededEntropy;

/// What parses bytes from outside: its name, and the function that asserts what holds.
pub type Body = (&'static str, fn(&[u8]));

/// Time of mutations per body; twenty times that at full counts.
const TIME: Duration = Duration::from_millis(250);
/// Longest input, bytes.
const MAX_INPUT: usize = 8 << 10;
/// Most changes between a seed and an input.
const MAX_CHANGES: u64 = 8;
/// What parsers stumble over.
const WORDS: [&[u8]; 24] = [
    b"\0",
    b"\r\n",
    b"\"",
    b"\\",
    b"{}",
    b"[]",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e400",
    b"4294967296",
    b"18446744073709551615",
    b"\xff\xff\xff\xff",
    b"\xc3\x28",
    b"\xf0\x9f\x92\xa9",
    b"\\ud800",
    b"../",
    b"//",
    b"%00",
    b"%",
    b":",
    b"=",
    b"&",
];

/// Runs every body of a crate; panics with the first input that breaks one and how to replay it.
///
/// `MAYFLY_TEST_SCALE=full` gives each body more time, `MAYFLY_TEST_SEED` repeats the mutations of an earlier
/// run, `MAYFLY_TEST_SEEDS_TO` names a folder to lay the seeds out in for another fuzzer.
///
/// # Panics
/// When a body does not hold; that is what it is for.
#[expect(clippy::print_stdout, reason = "the output of a test is where its seed is looked for")]
pub fn run(package: &str, bodies: &[Body]) {
    let variable = |name: &str| std::env::var(name).ok();
    if let Some(input) = variable("MAYFLY_TEST_INPUT") {
        return replay(bodies, Path::new(&input));
    }
    let seed =
        variable("MAYFLY_TEST_SEED").and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            since.map_or(1, |since| u64::from(since.subsec_nanos()))
        });
    let full = variable("MAYFLY_TEST_SCALE").is_some_and(|scale| scale == "full");
    let time = if full { TIME * 20 } else { TIME };
    println!("fuzz bodies of {package}: {time:?} each, MAYFLY_TEST_SEED={seed}");
    let lay_out = variable("MAYFLY_TEST_SEEDS_TO").map(PathBuf::from);
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let seeds = seeds(body.0);
                    if let Some(folder) = &lay_out {
                        keep_seeds(&folder.join(body.0), &seeds);
                    }
                    if let Err(broken) = explore(*body, &seeds, seed, time) {
                        failures.lock().expect("no worker panics with the lock").push(broken);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no worker panics with the lock");
    assert!(
        failures.is_empty(),
        "MAYFLY_TEST_SEED={seed}: {} broken:\n{}",
        failures.len(),
        failures
            .iter()
            .map(|(name, file)| format!(
                "{name}: replay it with MAYFLY_TEST_INPUT={} cargo nextest run -p {package} fuzz",
                file.display()
            ))
            .collect::<Vec<_>>()
            .join("\n")
    );
}

/// Gives one kept input to the body that its file is named after; other crates' bodies pass it by.
#[expect(clippy::print_stdout, reason = "a skip says so in the output of its test")]
fn replay(bodies: &[Body], input: &Path) {
    let name = input.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some((_, body)) = bodies
        .iter()
        .find(|(body, _)| name.strip_prefix(body).is_some_and(|rest| rest.starts_with('-')))
    else {
        println!("SKIP fuzz: no body of this crate is named at the beginning of {name}");
        return;
    };
    body(&std::fs::read(input).expect("the kept input can be read"));
}

/// Seeds first, then mutations of them; the file of the first input that breaks the body.
#[expect(clippy::print_stdout, reason = "the output of a test says how much was tried")]
fn explore(
    (name, body): Body,
    seeds: &BTreeMap<String, Vec<u8>>,
    seed: u64,
    time: Duration,
) -> Result<(), (&'static str, PathBuf)> {
    let holds = |input: &[u8]| catch_unwind(AssertUnwindSafe(|| body(input))).is_ok();
    let dice = SeededEntropy::new(seed);
    let start = Instant::now();
    let mut runs = 0_u64;
    for input in seeds.values() {
        if !holds(input) {
            return Err((name, keep(name, input)));
        }
    }
    let seeds: Vec<&[u8]> = seeds.values().map(Vec::as_slice).collect();
    while start.elapsed() < time {
        let input = mutated(&seeds, &dice);
        runs += 1;
        if !holds(&input) {
            return Err((name, keep(name, &input)));
        }
    }
    println!("    {name:<20} {:>3} seeds, {runs:>7} mutations", seeds.len());
    Ok(())
}

fn keep(name: &str, input: &[u8]) -> PathBuf {
    let hash = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| repository().join("target"), PathBuf::from);
    let folder = target.join("fuzz/failures");
    let file = folder.join(format!("{name}-{hash:016x}"));
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&file, input))
        .expect("the target folder can be written");
    file
}

fn keep_seeds(folder: &Path, seeds: &BTreeMap<String, Vec<u8>>) {
    std::fs::create_dir_all(folder).expect("the folder for seeds can be made");
    for (name, bytes) in seeds {
        std::fs::write(folder.join(name), bytes).expect("a seed can be written");
    }
}

fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("crates/testkit lies in the repository").to_path_buf()
}

/// The committed seeds of a body, by file name. Those that end in `.hex` are bytes written out, with remarks
/// behind `#`.
fn seeds(name: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = repository().join("fuzz/seeds").join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| {
        panic!("body {name} has no seeds in {}: {error}", folder.display())
    });
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("the folder of seeds can be listed").path();
        let bytes = std::fs::read(&path).expect("a seed can be read");
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_hex = path.extension().is_some_and(|ending| ending == "hex");
        (file, if is_hex { unhex(&bytes) } else { bytes })
    };
    let seeds: BTreeMap<_, _> = entries.map(read).collect();
    assert!(!seeds.is_empty(), "body {name} has no seeds in {}", folder.display());
    seeds
}

fn unhex(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let digits: String = text
        .lines()
        .filter_map(|line| line.split('#').next())
        .flat_map(str::split_whitespace)
        .collect();
    let digit = |at: usize| {
        let text = digits.get(at..at + 2).expect("a .hex seed has two digits per byte");
        u8::from_str_radix(text, 16).expect("a .hex seed holds hex digits and remarks")
    };
    (0..digits.len()).step_by(2).map(digit).collect()
}

/// A seed with a few changes; now and then bytes that no seed resembles.
fn mutated(seeds: &[&[u8]], dice: &SeededEntropy) -> Vec<u8> {
    let below = |bound: usize| {
        usize::try_from(dice.number() % (bound.max(1) as u64)).expect("it is below a usize")
    };
    let one_of = |seeds: &[&[u8]]| seeds[below(seeds.len())].to_vec();
    let mut bytes = if below(32) == 0 {
        (0..below(64)).map(|_| dice.number().to_le_bytes()[0]).collect()
    } else {
        one_of(seeds)
    };
    for _ in 0..=dice.number() % MAX_CHANGES {
        let at = below(bytes.len() + 1);
        let end = at + below((bytes.len() - at).min(32) + 1);
        match below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << below(8),
            1 if at < bytes.len() => bytes[at] = dice.number().to_le_bytes()[0],
            2 => drop(bytes.drain(at..end)),
            3 => insert(&mut bytes, at, WORDS[below(WORDS.len())]),
            4 => {
                let piece = bytes[at..end].to_vec();
                for _ in 0..=below(8) {
                    insert(&mut bytes, at, &piece);
                }
            }
            5 => {
                let other = one_of(seeds);
                let from = below(other.len() + 1);
                let to = from + below(other.len() - from + 1);
                insert(&mut bytes, at, &other[from..to]);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes.truncate(MAX_INPUT);
    bytes
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    drop(bytes.splice(at..at, piece.iter().copied()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_seeds_read_as_bytes_with_remarks() {
        assert_eq!(unhex(b"# head\n01 ff # two\n\n0a0b"), [1, 255, 10, 11]);
    }

    #[test]
    fn mutations_repeat_with_their_seed_and_find_what_breaks_on_a_word() {
        let inputs = |seed| {
            let dice = SeededEntropy::new(seed);
            (0..200).map(|_| mutated(&[b"{\"a\":1}", b"second"], &dice)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(5), inputs(5));
        assert_ne!(inputs(5), inputs(6));
        assert!(inputs(5).iter().any(|input| input.contains(&0)), "no input holds NUL");
    }

    #[test]
    fn a_broken_body_leaves_the_input_that_breaks_it() {
        fn breaks_on_nul(input: &[u8]) {
            assert!(!input.contains(&0), "a NUL");
        }
        let seeds = BTreeMap::from([("one".to_owned(), b"abc".to_vec())]);
        let (_, file) = explore(("breaks", breaks_on_nul), &seeds, 1, Duration::from_secs(20))
            .expect_err("mutations insert NUL");
        assert!(std::fs::read(&file).expect("it was kept").contains(&0));
        std::fs::remove_file(file).expect("it can be removed");
    }
}
