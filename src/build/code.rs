//! Machine code of a binary by package: what the binary says of itself, for people who want to know
//! where its size comes from. Nothing is decided by it, and nothing of it is signed.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::{fetch::wire::ModuleHash, spec::ImportPath};

/// Code of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageCode {
    /// Import path; that of the command, not `main`.
    pub path: ImportPath,
    /// Bytes of its functions.
    pub bytes: u64,
}

/// Code of a binary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Packages with code, the largest first; a path once.
    pub packages: Vec<PackageCode>,
    /// Bytes of what the compiler and the linker made for no package, and of packages beyond
    /// [`Code::PACKAGES_MAX`].
    pub other: u64,
}

/// To whom a package belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner<'a> {
    /// A module of the build, by its path.
    Module(&'a str),
    /// The Go SDK.
    StandardLibrary,
    /// Nobody that is known.
    Other,
}

/// Modules whose code is in a binary.
pub struct Owners<'a>(HashSet<&'a str>);

impl Code {
    /// Most packages that are told apart; the largest Go programs known have 4,000.
    pub const PACKAGES_MAX: usize = 5_000;

    /// Sorts packages and cuts what is too much; nothing when the sum has more than 64 bits.
    #[must_use]
    pub fn new(mut packages: Vec<PackageCode>, mut other: u64) -> Option<Self> {
        packages.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
        let known = packages.len().min(Self::PACKAGES_MAX);
        for cut in packages.split_off(known) {
            other = other.checked_add(cut.bytes)?;
        }
        let sum = packages
            .iter()
            .try_fold(other, |sum, one| sum.checked_add(one.bytes));
        sum.map(|_| Self { packages, other })
    }

    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.packages
            .iter()
            .map(|package| package.bytes)
            .sum::<u64>()
            + self.other
    }
}

impl<'a> Owners<'a> {
    /// Of what a relay served; a module of which only the go.mod was needed brings no code.
    #[must_use]
    pub fn of(modules: &'a [ModuleHash]) -> Self {
        let linked = modules.iter().filter(|module| module.h1.is_some());
        Self(linked.map(|module| module.path.as_str()).collect())
    }

    /// The module with the longest path that the package lies in, else the standard library for a
    /// path that no module can have.
    #[must_use]
    pub fn owner(&self, package: &ImportPath) -> Owner<'a> {
        let path = package.as_str();
        let mut prefix = path;
        loop {
            if let Some(module) = self.0.get(prefix) {
                return Owner::Module(module);
            }
            match prefix.rsplit_once('/') {
                Some((shorter, _)) => prefix = shorter,
                None if prefix.contains('.') => return Owner::Other,
                None => return Owner::StandardLibrary,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(path: &str, bytes: u64) -> PackageCode {
        let path = ImportPath::parse(path).unwrap();
        PackageCode { path, bytes }
    }

    #[test]
    fn packages_belong_to_the_module_with_the_longest_path() {
        let module = |path: &str, linked: bool| ModuleHash {
            path: path.to_owned(),
            version: "v1.0.0".to_owned(),
            h1: linked.then(|| "h1:x".to_owned()),
            go_mod_h1: None,
        };
        let modules = [
            module("a.example/m", true),
            module("a.example/m/sub", true),
            module("a.example/m/sub/read", false),
        ];
        let owners = Owners::of(&modules);
        for (path, owner) in [
            ("a.example/m", Owner::Module("a.example/m")),
            ("a.example/m/cmd/x", Owner::Module("a.example/m")),
            ("a.example/m/sub/read/x", Owner::Module("a.example/m/sub")),
            ("a.example/more", Owner::Other),
            ("runtime/debug", Owner::StandardLibrary),
            ("vendor/golang.org/x/crypto", Owner::StandardLibrary),
        ] {
            assert_eq!(
                owners.owner(&ImportPath::parse(path).unwrap()),
                owner,
                "{path}"
            );
        }
    }

    #[test]
    fn the_largest_come_first_and_what_is_too_much_has_no_package() {
        let code = Code::new(vec![package("a", 1), package("c", 9), package("b", 9)], 5).unwrap();
        let paths: Vec<_> = code.packages.iter().map(|one| one.path.as_str()).collect();
        assert_eq!((paths, code.bytes()), (vec!["b", "c", "a"], 24));
        let many = (0..Code::PACKAGES_MAX + 3).map(|number| package(&format!("p{number}"), 2));
        let code = Code::new(many.collect(), 1).unwrap();
        assert_eq!((code.packages.len(), code.other), (Code::PACKAGES_MAX, 7));
        assert_eq!(Code::new(vec![package("a", u64::MAX)], 1), None);
    }
}
