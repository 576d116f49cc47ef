//! The other targets of a command, as links, with the sizes of those that are built already.
//!
//! Called by the pages of builds, results and modules. A link leads to a page, which builds nothing
//! by itself, so that whoever follows all of them costs a page each.

use rusqlite::{Connection, ToSql, params_from_iter};

use super::{
    catalogue::{Catalogue, CatalogueError},
    words,
};
use crate::spec::{BuildKey, GoVersion, ModuleVersion, Target, url};

/// Systems that few people have, in the order in which they come after all others.
const LAST: [&str; 4] = ["plan9", "aix", "js", "wasip1"];

/// Targets of one operating system.
pub(super) struct Group {
    pub(super) goos: &'static str,
    pub(super) links: Vec<Link>,
}

/// A target to go to.
pub(super) struct Link {
    pub(super) goarch: &'static str,
    /// Nothing for the one that the page is about.
    pub(super) href: Option<String>,
    /// When it is built.
    pub(super) size: Option<String>,
}

/// Targets of a command that are built, with their sizes.
pub(super) type Built = Vec<(Target, u64)>;

/// All targets that the release of a build has, by system: those that most people have first.
pub(super) fn of_build(key: &BuildKey, built: &[(Target, u64)]) -> Vec<Group> {
    grouped(key.go, |target| {
        let mut other = key.clone();
        other.target = target;
        let size = built.iter().find(|(one, _)| *one == target);
        Link {
            goarch: target.goarch(),
            href: (target != key.target).then(|| url::build_path(&other)),
            size: size.map(|(_, bytes)| words::size(*bytes)),
        }
    })
}

/// All targets of a command with the newest release, of which nothing need be known.
pub(super) fn of_command(module: &ModuleVersion, dir: &str) -> Vec<Group> {
    grouped(GoVersion::NEWEST_KNOWN, |target| Link {
        goarch: target.goarch(),
        href: Some(super::pages::command_page(module, dir, target)),
        size: None,
    })
}

fn grouped(go: GoVersion, link: impl Fn(Target) -> Link) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for target in Target::of(go) {
        let goos = target.goos();
        match groups.last_mut() {
            Some(group) if group.goos == goos => group.links.push(link(target)),
            _ => groups.push(Group {
                goos,
                links: vec![link(target)],
            }),
        }
    }
    const FIRST: [&str; 3] = ["linux", "darwin", "windows"];
    let place = |list: &[&str], goos| list.iter().position(|one| *one == goos);
    groups.sort_by_key(|group| {
        let first = place(&FIRST, group.goos).unwrap_or(FIRST.len());
        (place(&LAST, group.goos).map_or(0, |last| last + 1), first)
    });
    groups
}

impl Catalogue {
    /// For which targets a build was made already, all else equal.
    pub(super) fn built_for(&self, key: &BuildKey) -> Result<Built, CatalogueError> {
        self.look(|db| read(db, key))
    }
}

fn read(db: &Connection, key: &BuildKey) -> Result<Built, CatalogueError> {
    let mut other = key.clone();
    let keys = Target::all().map(|target| {
        other.target = target;
        other.to_string()
    });
    let keys: Vec<_> = keys.collect();
    let places = vec!["?"; keys.len()].join(", ");
    let sql = format!("SELECT key, size FROM result WHERE key IN ({places})");
    let mut query = db.prepare_cached(&sql)?;
    let keys = params_from_iter(keys.iter().map(|key| key as &dyn ToSql));
    let rows = query.query_map(keys, |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
    let mut built = Vec::new();
    for row in rows {
        let (key, size) = row?;
        built.extend(BuildKey::parse(&key).map(|key| (key.target, size)));
    }
    Ok(built)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::testing::key;

    #[test]
    fn systems_that_most_people_have_come_first_and_the_page_itself_is_no_link() {
        let groups = of_build(&key(), &[(Target::HOST, 4_500_000)]);
        let systems: Vec<_> = groups.iter().map(|group| group.goos).collect();
        assert_eq!(systems[..4], ["linux", "darwin", "windows", "android"]);
        assert_eq!(systems[systems.len() - 4..], LAST);
        let links = || groups.iter().flat_map(|group| &group.links);
        let same: Vec<_> = links().filter(|link| link.href.is_none()).collect();
        assert_eq!(same.len(), 1);
        assert_eq!(same[0].size.as_deref(), Some("4.5 MB"));
        assert!(links().all(|link| link.href.as_deref() != Some("")));
        let arm = groups[0].links.iter().find(|link| link.goarch == "arm64");
        let href = arm.unwrap().href.as_deref();
        assert_eq!(
            href,
            Some("/example.org/m@v1.2.3/cmd/tool/linux-arm64-go1.26.8/")
        );
    }
}
