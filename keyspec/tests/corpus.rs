//! Replays the corpus of the fuzz target, which holds what was found and what is worth starting
//! from.

#[path = "../fuzz/check.rs"]
mod check;

use std::path::Path;

#[test]
fn every_input_of_the_corpus_is_read_or_refused_as_it_should_be() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/read");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("an entry").path();
        let input = std::fs::read(&path).expect("a file");
        let checked = std::panic::catch_unwind(|| check::check(&input));
        assert!(checked.is_ok(), "{}", path.display());
        count += 1;
    }
    assert!(count >= 50, "{count} inputs");
}

/// Inputs name a spec by its place.
#[test]
fn the_corpus_reads_with_every_spec() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/read");
    let places: Vec<usize> = std::fs::read_dir(folder)
        .expect("the corpus is there")
        .filter_map(|entry| {
            std::fs::read(entry.expect("an entry").path()).expect("a file").first().copied()
        })
        .map(|place| usize::from(place) % check::specs().len())
        .collect();
    for (place, spec) in check::specs().iter().enumerate() {
        assert!(places.contains(&place), "{}", spec.name());
    }
}
