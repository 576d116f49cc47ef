//! Go SDKs: where they come from, which hashes they must have, and how they are unpacked.
//!
//! An SDK is the module `golang.org/toolchain` at a version such as
//! `v0.0.1-go1.26.8.linux-amd64` (<https://go.dev/doc/toolchain#version>). Owns: the pins of
//! `toolchains/*.toml` and the entry policy. Called by `fetch`. Must never leave an unpacked tree
//! behind whose hash is not the expected one; the supervisor computes that hash once more over the
//! tree, before it adopts a copy.

pub mod pins;
mod unpack;

use crate::spec::{GoQuery, GoVersion, ModulePath, ModuleVersion, SpecError, Target, Version};

pub use pins::pinned;
pub use unpack::{UnpackError, unpack};

/// Path of the module that all SDKs are versions of.
pub const MODULE: &str = "golang.org/toolchain";

/// The module version that holds an SDK for a host.
///
/// # Errors
/// Never for a real release; the type of the version says so only at run time.
pub fn module(go: GoVersion, host: Target) -> Result<ModuleVersion, SpecError> {
    ModuleVersion::parse(MODULE, &go.toolchain_version(host))
}

/// Path of the module of all SDKs.
///
/// # Errors
/// Never.
pub fn module_path() -> Result<ModulePath, SpecError> {
    ModulePath::parse(MODULE)
}

/// The releases for a host in a list of the module's versions, newest first. Candidates are none.
#[must_use]
pub fn releases(list: &[Version], host: Target) -> Vec<GoVersion> {
    let suffix = format!(".{host}");
    let release = |version: &Version| {
        let name = version
            .as_str()
            .strip_prefix("v0.0.1-")?
            .strip_suffix(&suffix)?;
        GoVersion::parse(name).ok()
    };
    let mut releases: Vec<_> = list.iter().filter_map(release).collect();
    releases.sort_unstable();
    releases.dedup();
    releases.reverse();
    releases
}

/// The release that a query means, of releases that are sorted newest first.
#[must_use]
pub fn choose(query: GoQuery, releases: &[GoVersion]) -> Option<GoVersion> {
    releases.iter().copied().find(|release| match query {
        GoQuery::Latest => true,
        GoQuery::Line(minor) => release.minor() == minor,
        GoQuery::Exact(exact) => *release == exact,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_is_no_candidate_and_of_this_host() {
        let list: Vec<_> = [
            "v0.0.1-go1.26.8.linux-amd64",
            "v0.0.1-go1.26.10.linux-amd64",
            "v0.0.1-go1.28rc1.linux-amd64",
            "v0.0.1-go1.27.0.linux-amd64",
            "v0.0.1-go1.27.9.linux-arm64",
            "v0.0.1-go1.9.linux-amd64",
        ]
        .iter()
        .map(|text| Version::parse(text).unwrap())
        .collect();
        let host = Target::parse("linux-amd64").unwrap();
        let releases = releases(&list, host);
        let shown: Vec<_> = releases.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["go1.27.0", "go1.26.10", "go1.26.8", "go1.9"]);
        let choose = |query| {
            choose(GoQuery::parse(query).unwrap(), &releases).map(|release| release.to_string())
        };
        assert_eq!(choose("latest").as_deref(), Some("go1.27.0"));
        assert_eq!(choose("go1.26.latest").as_deref(), Some("go1.26.10"));
        assert_eq!(choose("go1.26.8").as_deref(), Some("go1.26.8"));
        assert_eq!(choose("go1.99.0"), None);
    }
}
