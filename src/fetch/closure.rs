//! Which files a relay may have: the closure of its plan.
//!
//! At first the main module; each verified go.mod that is served adds what it requires. Nothing
//! else is ever asked for upstream, so that a build has the same inputs today and tomorrow, and a
//! cell cannot use us as its way out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    gomod::GoMod,
    wire::{Member, ModuleHash, Trouble, Want},
};
use crate::spec::ModuleVersion;

/// Most go.mod files of one build; the largest known builds read some 2,000.
pub(super) const GO_MODS_MAX: usize = 20_000;
/// Most bytes of them.
pub(super) const GO_MOD_BYTES_MAX: u64 = 64 << 20;
/// Most bytes of zips in their stored form.
pub(super) const ZIP_BYTES_MAX: u64 = 2 << 30;
/// Most modules that those go.mod files may name; bounds memory.
pub(super) const MEMBERS_MAX: usize = 200_000;
/// Most modules whose list was asked for that are remembered; one is enough to end a build.
const MISSING_MAX: usize = 20;

/// The closure needs more than one build may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the modules of this build exceed its limit of {0}")]
pub(super) struct Exceeded(&'static str);

/// What a file is, when a relay may have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This text, made here.
    Text(String),
    /// The verified go.mod.
    Mod(ModuleVersion),
    /// The verified zip.
    Zip(ModuleVersion),
    /// Nothing.
    NotFound,
    /// The build needs it, and the lock file has no hash of it.
    NotLocked(Member),
}

/// The closure of one session, and what was served of it.
#[derive(Default)]
pub(super) struct Closure {
    root: Option<Member>,
    members: HashSet<Member>,
    locked: Option<HashMap<Member, ModuleHash>>,
    served: BTreeMap<Member, ModuleHash>,
    missing: BTreeSet<String>,
    go_mods: usize,
    go_mod_bytes: u64,
    zip_bytes: u64,
    /// The first one.
    pub(super) trouble: Option<Trouble>,
}

impl Closure {
    /// The closure of a main module, or an empty one.
    pub(super) fn new(root: Option<Member>, locked: Option<Vec<ModuleHash>>) -> Self {
        let member = |of: &ModuleHash| Member {
            path: of.path.clone(),
            version: of.version.clone(),
        };
        let locked = locked.map(|all| all.into_iter().map(|of| (member(&of), of)).collect());
        Self {
            members: root.iter().cloned().collect(),
            root,
            locked,
            ..Self::default()
        }
    }

    /// Judges what a relay wants.
    pub(super) fn judge(&mut self, want: &Want) -> Verdict {
        let member = match want {
            Want::List { path } => return self.list(path),
            Want::Info(member) | Want::Mod(member) | Want::Zip(member) => member,
        };
        if !self.members.contains(member) {
            return Verdict::NotFound;
        }
        let Ok(module) = ModuleVersion::parse(&member.path, &member.version) else {
            return Verdict::NotFound;
        };
        let locked = self.locked.as_ref().map(|all| all.get(member));
        let is_locked = match (want, locked) {
            (_, None) | (Want::Info(_), Some(Some(_))) => true,
            (Want::Mod(_), Some(Some(hash))) => hash.go_mod_h1.is_some(),
            (Want::Zip(_), Some(Some(hash))) => hash.h1.is_some(),
            _ => false,
        };
        match want {
            _ if !is_locked => Verdict::NotLocked(member.clone()),
            // The proxy's own `.info` is not covered by the checksum database.
            Want::Info(_) => Verdict::Text(format!("{{\"Version\":\"{}\"}}", module.version)),
            Want::Mod(_) => Verdict::Mod(module),
            _ => Verdict::Zip(module),
        }
    }

    /// The list of the main module has the planned version. Any other list is a sign that a go.mod
    /// lacks a requirement, but for the prefixes of the main module, which go tries by itself.
    fn list(&mut self, path: &str) -> Verdict {
        let Some(root) = &self.root else {
            return Verdict::NotFound;
        };
        if root.path == path {
            return Verdict::Text(format!("{}\n", root.version));
        }
        let is_prefix = root
            .path
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('/'));
        if !is_prefix
            && self.missing.len() < MISSING_MAX
            && crate::spec::ModulePath::parse(path).is_ok()
        {
            self.missing.insert(path.to_owned());
        }
        Verdict::NotFound
    }

    /// The hash that the lock file demands, if there is a lock file.
    pub(super) fn demanded(&self, want: &Want) -> Option<&str> {
        let locked = self.locked.as_ref()?;
        match want {
            Want::Mod(member) => locked.get(member)?.go_mod_h1.as_deref(),
            Want::Zip(member) => locked.get(member)?.h1.as_deref(),
            Want::List { .. } | Want::Info(_) => None,
        }
    }

    /// Counts a verified go.mod that is about to be served and takes in what it requires.
    /// `Some` when this is the first time.
    pub(super) fn add_go_mod(
        &mut self,
        member: &Member,
        h1: &str,
        bytes: u64,
        content: &GoMod,
    ) -> Result<Option<ModuleHash>, Exceeded> {
        let Some(served) = self.serve(member, |hash| &mut hash.go_mod_h1, h1) else {
            return Ok(None);
        };
        self.go_mods += 1;
        self.go_mod_bytes += bytes;
        for module in &content.requires {
            let (path, version) = (module.path.to_string(), module.version.to_string());
            self.members.insert(Member { path, version });
        }
        for (is_over, what) in [
            (self.go_mods > GO_MODS_MAX, "20,000 go.mod files"),
            (
                self.go_mod_bytes > GO_MOD_BYTES_MAX,
                "64 MiB of go.mod files",
            ),
            (self.members.len() > MEMBERS_MAX, "200,000 required modules"),
        ] {
            if is_over {
                return Err(Exceeded(what));
            }
        }
        Ok(Some(served))
    }

    /// Counts a verified zip that is about to be served. `Some` when this is the first time.
    pub(super) fn add_zip(
        &mut self,
        member: &Member,
        h1: &str,
        bytes: u64,
    ) -> Result<Option<ModuleHash>, Exceeded> {
        let Some(served) = self.serve(member, |hash| &mut hash.h1, h1) else {
            return Ok(None);
        };
        self.zip_bytes += bytes;
        if self.zip_bytes > ZIP_BYTES_MAX {
            Err(Exceeded("2 GiB of zips"))
        } else {
            Ok(Some(served))
        }
    }

    fn serve(
        &mut self,
        member: &Member,
        field: fn(&mut ModuleHash) -> &mut Option<String>,
        h1: &str,
    ) -> Option<ModuleHash> {
        let empty = || ModuleHash {
            path: member.path.clone(),
            version: member.version.clone(),
            h1: None,
            go_mod_h1: None,
        };
        let served = self.served.entry(member.clone()).or_insert_with(empty);
        let field = field(served);
        if field.is_some() {
            return None;
        }
        *field = Some(h1.to_owned());
        Some(served.clone())
    }

    /// All that was served, sorted.
    pub(super) fn served(&self) -> Vec<ModuleHash> {
        self.served.values().cloned().collect()
    }

    /// Modules whose list was asked for.
    pub(super) fn missing(&self) -> Vec<String> {
        self.missing.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(path: &str, version: &str) -> Member {
        Member {
            path: path.into(),
            version: version.into(),
        }
    }

    fn closure() -> Closure {
        Closure::new(Some(member("example.com/m", "v1.0.0")), None)
    }

    fn go_mod(text: &str) -> GoMod {
        GoMod::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn nothing_but_the_main_module_is_known_at_first() {
        let mut closure = closure();
        let root = member("example.com/m", "v1.0.0");
        assert_eq!(
            closure.judge(&Want::Info(root.clone())),
            Verdict::Text("{\"Version\":\"v1.0.0\"}".into())
        );
        assert!(matches!(
            closure.judge(&Want::Mod(root.clone())),
            Verdict::Mod(_)
        ));
        assert!(matches!(closure.judge(&Want::Zip(root)), Verdict::Zip(_)));
        for other in [
            member("example.com/m", "v1.0.1"),
            member("evil.example/data", "v1.0.0"),
        ] {
            for want in [
                Want::Info(other.clone()),
                Want::Mod(other.clone()),
                Want::Zip(other),
            ] {
                assert_eq!(closure.judge(&want), Verdict::NotFound);
            }
        }
    }

    #[test]
    fn a_served_go_mod_adds_what_it_requires_and_no_more() {
        let mut closure = closure();
        let dep = member("example.com/dep", "v1.1.0");
        let content = go_mod("module example.com/m\nrequire example.com/dep v1.1.0\n");
        let first = closure.add_go_mod(&member("example.com/m", "v1.0.0"), "h1:x", 9, &content);
        assert!(first.unwrap().is_some());
        let again = closure.add_go_mod(&member("example.com/m", "v1.0.0"), "h1:x", 9, &content);
        assert_eq!(again, Ok(None));
        assert!(matches!(closure.judge(&Want::Mod(dep)), Verdict::Mod(_)));
        assert_eq!(
            closure.judge(&Want::Mod(member("example.com/dep", "v1.2.0"))),
            Verdict::NotFound
        );
        assert_eq!(closure.served().len(), 1);
    }

    #[test]
    fn only_the_main_module_has_a_list_and_other_lists_are_noted() {
        let mut closure = Closure::new(Some(member("example.com/a/m", "v1.0.0")), None);
        let list = |path: &str| Want::List { path: path.into() };
        assert_eq!(
            closure.judge(&list("example.com/a/m")),
            Verdict::Text("v1.0.0\n".into())
        );
        for path in [
            "example.com/a",
            "example.com",
            "example.com/dep",
            "\u{1b}[31m",
        ] {
            assert_eq!(closure.judge(&list(path)), Verdict::NotFound);
        }
        assert_eq!(closure.missing(), ["example.com/dep"]);
        for number in 0..100 {
            closure.judge(&list(&format!("example.com/{number}")));
        }
        assert_eq!(closure.missing().len(), MISSING_MAX);
    }

    #[test]
    fn a_closure_without_a_module_is_empty() {
        let mut closure = Closure::new(None, None);
        let member = member("example.com/m", "v1.0.0");
        assert_eq!(
            closure.judge(&Want::List {
                path: member.path.clone()
            }),
            Verdict::NotFound
        );
        assert_eq!(closure.judge(&Want::Zip(member)), Verdict::NotFound);
    }

    #[test]
    fn with_a_lock_file_a_needed_module_without_hash_is_told_from_a_probe() {
        let root = member("example.com/m", "v1.0.0");
        let locked = ModuleHash {
            path: root.path.clone(),
            version: root.version.clone(),
            h1: None,
            go_mod_h1: Some("h1:mod".into()),
        };
        let mut closure = Closure::new(Some(root.clone()), Some(vec![locked]));
        assert!(matches!(
            closure.judge(&Want::Mod(root.clone())),
            Verdict::Mod(_)
        ));
        assert_eq!(closure.demanded(&Want::Mod(root.clone())), Some("h1:mod"));
        assert_eq!(
            closure.judge(&Want::Zip(root.clone())),
            Verdict::NotLocked(root.clone())
        );
        closure
            .add_go_mod(
                &root,
                "h1:mod",
                1,
                &go_mod("require example.com/dep v1.0.0\n"),
            )
            .unwrap();
        let dep = member("example.com/dep", "v1.0.0");
        assert_eq!(
            closure.judge(&Want::Mod(dep.clone())),
            Verdict::NotLocked(dep)
        );
        assert_eq!(
            closure.judge(&Want::Info(member("example.com", "v1.0.0"))),
            Verdict::NotFound
        );
    }

    #[test]
    fn limits_end_a_build_that_needs_too_much() {
        let mut closure = closure();
        let root = member("example.com/m", "v1.0.0");
        assert!(closure.add_zip(&root, "h1:x", ZIP_BYTES_MAX).is_ok());
        assert_eq!(closure.add_zip(&root, "h1:x", 1), Ok(None));
        let dep = member("example.com/dep", "v1.0.0");
        assert_eq!(
            closure.add_zip(&dep, "h1:x", 1),
            Err(Exceeded("2 GiB of zips"))
        );
        assert!(
            closure
                .add_go_mod(&root, "h1:x", GO_MOD_BYTES_MAX, &GoMod::default())
                .is_ok()
        );
        assert!(
            closure
                .add_go_mod(&dep, "h1:x", 1, &GoMod::default())
                .is_err()
        );
        let mut closure = super::tests::closure();
        for number in 0..GO_MODS_MAX {
            let module = member(&format!("example.com/{number}"), "v1.0.0");
            closure
                .add_go_mod(&module, "h1:x", 1, &GoMod::default())
                .unwrap();
        }
        assert!(
            closure
                .add_go_mod(&dep, "h1:x", 1, &GoMod::default())
                .is_err()
        );
    }
}
