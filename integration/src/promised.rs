//! What a service has promised so far: heads that left it and records that it answered with. Later
//! states are compared with it, after whatever was done to the service.

use std::{collections::BTreeMap, path::Path, sync::Mutex};

use hotcell::{
    spec::Record,
    tlog::{Frontier, Hash, Note, Tree, VerifierKey, leaf_hash, text::parse_tree},
};
use rusqlite::{Connection, OpenFlags};

use crate::{http, service::Service};

/// Promises of one log.
#[derive(Debug, Default)]
pub struct Promised {
    /// Root of each size that was signed.
    heads: Mutex<BTreeMap<u64, Hash>>,
    /// Record of each module that was answered.
    answers: Mutex<BTreeMap<String, String>>,
}

impl Promised {
    /// Takes down the head that is shown now, which must be signed; nothing when there is none.
    ///
    /// # Panics
    /// When it is not signed, or another one of its size was seen.
    pub fn head(&self, url: &str, key: &str) -> Option<Tree> {
        let answer = http::try_get(&format!("{url}/tlog/latest"))?;
        assert_eq!(answer.status, 200, "reading goes on");
        let key = VerifierKey::parse(key).expect("a key");
        let note = Note::parse(&answer.body).expect("a note");
        let text = note.verify(&key).expect("a signed head");
        let tree = parse_tree(text).expect("a head");
        let known = self
            .heads
            .lock()
            .expect("nobody panics")
            .insert(tree.size, tree.root);
        assert!(
            known.is_none_or(|root| root == tree.root),
            "two heads of {}",
            tree.size
        );
        Some(tree)
    }

    /// Asks for the record of a module and takes the answer down; its status, or nothing when the
    /// service died over it.
    ///
    /// # Panics
    /// When another record was answered before.
    pub fn ask(&self, url: &str, module: &str) -> Option<u16> {
        let path = crate::service::record_path(module);
        let answer = http::try_get(&format!("{url}{path}"))?;
        if answer.status == 200 {
            let text = answer.text();
            let mut answers = self.answers.lock().expect("nobody panics");
            let known = answers.insert(module.to_owned(), text.clone());
            assert!(
                known.is_none_or(|known| known == text),
                "another record: {text}"
            );
        }
        Some(answer.status)
    }

    /// Asserts that a service which was started again has kept all promises and makes new ones:
    /// that its log contains every head, has each answered record once, and that these modules
    /// are logged when they are asked for.
    ///
    /// # Panics
    /// When it has not.
    pub fn assert_kept(&self, service: &Service, database: &Path, modules: &[&str], what: &str) {
        let said = http::get(&format!("{}/healthz", service.url())).text();
        assert!(
            said.contains("log: live"),
            "{what}: {said}\n{}",
            service.trace()
        );
        self.head(&service.url(), service.verifier_key());
        self.assert_contained(database, what); // a job that it took up again may add to it
        for module in modules {
            let status = self.ask(&service.url(), module);
            assert_eq!(status, Some(200), "{what}: {module}: {}", service.trace());
        }
        let now = self
            .head(&service.url(), service.verifier_key())
            .expect("it lives");
        let newest = self.assert_contained(database, what);
        assert_eq!(newest, now, "{what}: leaves that no head covers");
    }

    /// Asserts that the leaves have the root of every head that was seen, and each answered record
    /// once; the tree of all leaves.
    fn assert_contained(&self, database: &Path, what: &str) -> Tree {
        let (trees, records) = contents(database);
        let heads = self.heads.lock().expect("nobody panics");
        for (size, root) in heads.iter() {
            let here = usize::try_from(*size).ok().and_then(|size| trees.get(size));
            let here = here.map(|tree| tree.root);
            assert_eq!(here, Some(*root), "{what}: a head of {size} left");
        }
        for (module, text) in self.answers.lock().expect("nobody panics").iter() {
            let found = records
                .iter()
                .filter(|record| record.trim_end() == text.trim_end());
            assert_eq!(found.count(), 1, "{what}: {module}");
        }
        let keys = records.iter().map(|text| {
            let record = Record::parse(text).expect("a record");
            record.key.to_string()
        });
        let keys: std::collections::BTreeSet<_> = keys.collect();
        assert_eq!(keys.len(), records.len(), "{what}: two records of one key");
        *trees.last().expect("the empty tree")
    }
}

/// The tree of each size, and the records of builds.
fn contents(database: &Path) -> (Vec<Tree>, Vec<String>) {
    let db = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let db = db.expect("the database can be opened");
    let mut leaves = db
        .prepare("SELECT body FROM log_record ORDER BY id")
        .expect("there are records");
    let texts = leaves.query_map([], |row| row.get::<_, String>(0));
    let mut frontier = Frontier::default();
    let (mut trees, mut records) = (vec![frontier.tree()], Vec::new());
    for text in texts.expect("they can be read") {
        let text = text.expect("a text");
        frontier.push(leaf_hash(text.as_bytes()));
        trees.push(frontier.tree());
        if Record::parse(&text).is_ok() {
            records.push(text);
        }
    }
    (trees, records)
}
