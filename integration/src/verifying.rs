//! A reader of a log that believes nothing but its key: every answer is verified against a signed
//! head, as soon as it is there.

use hotcell::tlog::{
    Note, OfflineProof, Tile, TilePlan, Tree, VerifierKey, index::stored_index, leaf_hash,
    proof::check_inclusion, text, tile,
};

use crate::{http, service::Service};

/// One log and its key.
#[derive(Debug)]
pub struct Reader {
    url: String,
    key: VerifierKey,
}

impl Reader {
    /// Of the log of this service.
    ///
    /// # Panics
    /// Never: a service prints its key.
    pub fn of(service: &Service) -> Self {
        Self {
            url: format!("{}/tlog", service.url()),
            key: VerifierKey::parse(service.verifier_key()).expect("a key"),
        }
    }

    fn get(&self, path: &str) -> Vec<u8> {
        let answer = http::get(&format!("{}/{path}", self.url));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.body
    }

    fn signed(&self, note: &[u8]) -> String {
        let note = Note::parse(note).expect("a note");
        note.verify(&self.key).expect("a signed head").to_owned()
    }

    /// The newest head in the form of the checksum database.
    ///
    /// # Panics
    /// As everything here: when an answer is not what the log must answer.
    pub fn latest(&self) -> Tree {
        text::parse_tree(&self.signed(&self.get("latest"))).expect("a head")
    }

    /// The newest head as a checkpoint.
    pub fn checkpoint(&self) -> Tree {
        self.checkpointed(&self.get("checkpoint"))
    }

    fn checkpointed(&self, note: &[u8]) -> Tree {
        let text = self.signed(note);
        let (origin, tree) = text::parse_checkpoint(&text).expect("a checkpoint");
        assert_eq!(origin, self.key.name());
        tree
    }

    /// A leaf of the tree of a signed head, old or new, by the tiles of that size, some of them
    /// partial. `width` leaves of its tile are asked for once more.
    pub fn leaf(&self, tree: Tree, n: u64, width: u16) -> String {
        let plan = TilePlan::new(tree, &[stored_index(0, n)]).expect("within the tree");
        let paths = plan.tiles().iter().map(Tile::c2sp_path);
        let tiles: Vec<Vec<u8>> = paths.map(|path| self.get(&path)).collect();
        let hashes = plan.verify(&tiles);
        let hash = hashes.unwrap_or_else(|| panic!("leaf {n} of {tree:?}"))[0];
        let whole = Tile::in_tree(stored_index(0, n), tree.size).expect("within the tree");
        let place = u16::try_from(n % u64::from(tile::WIDTH)).expect("below 256");
        let records = |tile: &Tile| {
            let bytes = self.get(&tile::data_path(tile));
            let texts = text::parse_data_tile(&bytes, tile.width()).expect("a data tile");
            texts.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let all = records(&whole);
        let text = &all[usize::from(place)];
        assert_eq!(leaf_hash(text.as_bytes()), hash, "leaf {n} of {tree:?}");
        // Narrower, as an older head had it, whether one of that size was ever signed or not.
        let narrow = Tile::new(0, whole.number(), width.clamp(1, whole.width())).expect("a tile");
        let at = plan.tiles().iter().position(|tile| *tile == whole);
        let bytes = &tiles[at.expect("the leaf is in it")];
        assert_eq!(
            self.get(&narrow.c2sp_path()),
            bytes[..narrow.bytes()],
            "{narrow:?}"
        );
        assert_eq!(
            records(&narrow),
            all[..usize::from(narrow.width())],
            "{narrow:?}"
        );
        text.clone()
    }

    /// What a lookup answers: index, text and the head that covers it, by which it is verified.
    pub fn lookup(&self, key: &str) -> (u64, Tree) {
        let answer = self.get(&format!("lookup/{key}"));
        let (index, text, note) = text::parse_record(&answer).expect("a record");
        let tree = text::parse_tree(&self.signed(note)).expect("a head");
        assert_eq!(self.leaf(tree, index, 1), text, "{key}");
        (index, tree)
    }

    /// The proof of a leaf, verified by itself.
    pub fn proof(&self, n: u64, text: &str) -> Tree {
        let proof = OfflineProof::parse(&self.get(&format!("proof/{n}"))).expect("a proof");
        let tree = self.checkpointed(proof.checkpoint.as_bytes());
        assert_eq!(proof.index, n);
        let hash = leaf_hash(text.as_bytes());
        check_inclusion(&proof.path, &tree, n, &hash).unwrap_or_else(|error| {
            panic!("leaf {n} of {tree:?}: {error}");
        });
        tree
    }
}
