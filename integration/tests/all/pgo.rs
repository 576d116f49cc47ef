//! Profile-guided modules need one tool more, and compile their own standard library.

use hotcell_integration::{fake, paths};

use crate::support::{bare_go, build};

#[test]
fn a_module_with_a_profile_builds_to_the_same_bits_as_outside() {
    let folder = paths::scratch("pgo");
    let ended = build("ex.example/pgo@v1.0.0", &folder.path().join("pgo"), &[]);
    assert_eq!(ended.code, 0, "{}", ended.err());
    assert_eq!(ended.json()["sha256"], bare_go("ex.example/pgo", "pgo"));
    let bytes = std::fs::read(folder.path().join("pgo")).expect("the binary is there");
    let told = b"-pgo=";
    assert!(
        bytes.windows(told.len()).any(|part| part == told),
        "the profile was used"
    );
    assert!(
        !fake::shared()
            .asked_for("ex.example/pgo/@v/v1.0.0.zip")
            .is_empty()
    );
}
