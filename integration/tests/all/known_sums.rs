//! Real modules through the configured module proxy: bit for bit what everybody else gets.

use hotcell_integration::{
    host,
    known::{self, Known},
    paths,
    service::{Place, warm},
    tools,
};

/// Builds one row and compares all that is known of it.
pub(crate) fn check(place: &Place, row: &Known, cold: bool) {
    let title = row.title();
    let folder = paths::scratch("known");
    let output = folder.path().join("binary");
    let args = row.args();
    let mut more: Vec<&str> = args[1..].iter().map(String::as_str).collect();
    if cold {
        more.push("--cold");
    }
    let ended = place.build(&args[0], &output, &more);
    assert_ne!(
        ended.code,
        4,
        "{title}: the module proxy or the checksum database failed, which says nothing about \
         hotcell: {}",
        ended.err()
    );
    assert_eq!(ended.code, 0, "{title}: {}", ended.err());
    let told = ended.json();
    assert_eq!(told["sum"], row.sum, "{title}");
    assert_eq!(told["sha256"], row.sha256, "{title}");
    assert_eq!(told["size"], row.size, "{title}");
    assert_eq!(
        host::sha256(&output),
        row.sha256,
        "{title}: the file itself"
    );
    let modules = told["modules"].as_array().expect("a list of modules");
    let main = modules.iter().find(|module| module["path"] == row.module);
    let main = main.unwrap_or_else(|| panic!("{title}: no main module in {modules:?}"));
    assert!(
        main["h1"].as_str().is_some_and(|h1| h1.starts_with("h1:")),
        "{title}: {main}"
    );
}

#[test]
fn every_known_row_has_the_sum_that_everybody_else_gets() {
    let place = Place::real(&warm("real"));
    for row in known::rows() {
        check(&place, &row, false);
    }
}

#[test]
fn every_known_row_has_the_same_sum_from_empty_caches() {
    let place = Place::real(&warm("cold"));
    let mut rows = known::rows();
    if !tools::is_long() {
        // One row for each SDK and for the stripped variant; all of them with `--long`.
        let mut seen = std::collections::BTreeSet::new();
        rows.retain(|row| seen.insert((row.goversion.clone(), row.variant.clone())));
    }
    for row in rows {
        check(&place, &row, true);
    }
    let left = host::tree(&place.folder.join("cache/hotcell"));
    assert!(
        left.keys().all(|path| !path.starts_with("cold")),
        "cold caches are removed: {left:?}"
    );
}
