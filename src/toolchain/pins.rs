//! Pinned hashes of SDKs, compiled in from `toolchains/`.

use std::{collections::BTreeMap, sync::LazyLock};

use crate::{
    modzip::H1,
    spec::{GoVersion, Target},
};

/// All files of `toolchains/`; the test below fails when one is missing here.
const FILES: [&str; 1] = [include_str!("../../toolchains/linux-amd64.toml")];

static PINS: LazyLock<BTreeMap<String, H1>> = LazyLock::new(|| {
    FILES
        .into_iter()
        .flat_map(|file| parse(file).expect("checked by a test"))
        .collect()
});

/// The hash that the zip of a version of `golang.org/toolchain` must have, when it is pinned.
#[must_use]
pub fn pinned(version: &str) -> Option<H1> {
    PINS.get(version).copied()
}

/// Releases for `host` whose hashes are pinned, the newest first.
pub fn all(host: Target) -> impl Iterator<Item = (GoVersion, H1)> {
    let suffix = format!(".{host}");
    let mut all: Vec<_> = PINS
        .iter()
        .filter_map(|(version, h1)| {
            let name = version.strip_prefix("v0.0.1-")?.strip_suffix(&suffix)?;
            Some((GoVersion::parse(name).ok()?, *h1))
        })
        .collect();
    all.sort_by_key(|(go, _)| std::cmp::Reverse(*go));
    all.into_iter()
}

fn parse(text: &str) -> Option<BTreeMap<String, H1>> {
    let table: BTreeMap<String, BTreeMap<String, String>> = toml::from_str(text).ok()?;
    // The supervisor reads the other table: go commands made from SDKs.
    let known = table
        .keys()
        .all(|key| matches!(key.as_str(), "h1" | "go_command"));
    let pins = table.get("h1").filter(|_| known)?;
    pins.iter()
        .map(|(version, h1)| Some((version.clone(), H1::parse(h1).ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pin_parses_and_names_a_release_for_the_host_of_its_file() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/toolchains");
        let mut files = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(
                FILES.contains(&text.as_str()),
                "{path:?} is not compiled in"
            );
            let host = Target::parse(path.file_stem().unwrap().to_str().unwrap()).unwrap();
            for version in parse(&text).unwrap().into_keys() {
                let name = version.strip_prefix("v0.0.1-").unwrap();
                let name = name.strip_suffix(&format!(".{host}")).unwrap();
                let go = GoVersion::parse(name).unwrap();
                assert_eq!(go.toolchain_version(host), version);
            }
            files += 1;
        }
        assert_eq!(files, FILES.len());
    }

    #[test]
    fn one_release_of_each_line_is_pinned() {
        for go in [
            "1.13.15", "1.14.15", "1.15.15", "1.16.15", "1.17.13", "1.18.10", "1.19.13", "1.20.14",
            "1.21.0", "1.22.12", "1.23.12", "1.24.13", "1.25.4", "1.26.8", "1.27.4",
        ] {
            assert!(
                pinned(&format!("v0.0.1-go{go}.linux-amd64")).is_some(),
                "{go}"
            );
        }
        assert_eq!(pinned("v0.0.1-go1.99.0.linux-amd64"), None);
    }

    #[test]
    fn the_sdk_of_the_driver_is_pinned_to_what_the_supervisor_takes() {
        let driver = format!(
            "v0.0.1-{}.linux-amd64",
            hotcell_sandbox::supervisor::DRIVER_GO
        );
        let pin = pinned(&driver).unwrap().to_string();
        assert_eq!(pin, hotcell_sandbox::supervisor::DRIVER_H1);
    }
}
