//! Every input of the corpus, and some mutations of each, through its target.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use leyden_fuzz::mutation::{Random, mutate};
use leyden_fuzz::{TARGETS, Target};

/// How many mutated inputs a target gets, so that all together take some seconds: stories are slow, and so are signatures.
fn mutations(target: &str) -> usize {
    match target {
        "channel_pair" | "peer_set" => 300,
        "channel_rows" | "invoices" | "onions" => 1_000,
        _ => 3_000,
    }
}

/// Bytes of the whole corpus: it is read by every clone of the repository.
const CORPUS_LIMIT: u64 = 500_000;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = corpus().join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<_> = entries
        .map(|entry| entry.expect("a folder entry").path())
        .map(|path| (path.display().to_string(), fs::read(&path).expect("an input")))
        .collect();
    inputs.sort();
    inputs
}

fn run(target: Target, input: &[u8], what: &str) {
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{what} breaks a promise; in hexadecimal: {hex}");
    }
}

#[test]
fn the_corpus_breaks_no_promise() {
    for (name, target) in TARGETS {
        let inputs = inputs(name);
        assert!(!inputs.is_empty(), "{name} has no input to begin with");
        for (path, input) in &inputs {
            run(*target, input, path);
        }
        println!("{name}: {} inputs", inputs.len());
    }
}

/// `LEYDEN_FUZZ_SEED` replays a run that failed.
#[test]
fn mutations_of_the_corpus_break_no_promise() {
    let seed = std::env::var("LEYDEN_FUZZ_SEED").ok().map_or(1, |seed| seed.parse().expect("a number"));
    println!("LEYDEN_FUZZ_SEED={seed}");
    for (name, target) in TARGETS {
        let (inputs, mut random) = (inputs(name), Random::new(seed));
        for count in 0..mutations(name) {
            let [from, other] = [(); 2].map(|()| &inputs[random.below(inputs.len())].1);
            let input = mutate(from, other, &mut random);
            run(*target, &input, &format!("{name}: mutation {count} of seed {seed}"));
        }
    }
}

#[test]
fn every_folder_of_the_corpus_has_its_target_and_all_of_them_are_small() {
    let mut bytes = 0;
    for entry in fs::read_dir(corpus()).expect("the corpus") {
        let entry = entry.expect("a folder entry");
        let folder = entry.file_name().into_string().expect("a name");
        assert!(TARGETS.iter().any(|(name, _)| *name == folder), "{folder} belongs to no target");
        bytes += inputs(&folder).iter().map(|(_, input)| input.len() as u64).sum::<u64>();
    }
    assert!(bytes <= CORPUS_LIMIT, "the corpus has {bytes} bytes: minimise it (see the README)");
}
