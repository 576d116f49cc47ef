//! Everything that reads bytes of strangers, tried with any bytes: one function for each target of
//! `fuzz/`.
//!
//! Called by the fuzzer and by the test below, which runs the kept corpus and mutations of it with
//! any compiler. A function here asserts what must hold for *every* input; it must never weaken a
//! check so that an input passes.

use std::{cell::RefCell, fs::File, io::Write as _};

use hotcell_sandbox::{
    policy::{
        Arch, Policy,
        evaluate::{Action, Call, decide},
    },
    wire::{MESSAGE_BYTES_MAX, Reply, Request},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    fetch::wire as fetch,
    modzip::{self, Archive},
    receipt::Receipt,
    relay, spec,
    tlog::{self, OfflineProof, VerifierKey, judge, witness::AddCheckpoint},
    toolchain::{UnpackError, unpack},
};

/// Longest input in bytes; longer ones show nothing new.
pub const INPUT_BYTES_MAX: usize = 64 * 1024;

/// Tries one input; panics when a promise is broken.
pub type Target = fn(&[u8]);

/// The targets by name.
pub const TARGETS: [(&str, Target); 8] = [
    ("wire", wire),
    ("policy", policy),
    ("gate", gate),
    ("unpack", unpacking),
    ("request", request),
    ("connection", connection),
    ("receipt", receipt),
    ("witness", witness),
];

thread_local! {
    static FILE: RefCell<File> = RefCell::new(memory());
    static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime of one thread");
}

fn memory() -> File {
    let fd = nix::sys::memfd::memfd_create(c"fuzz", nix::sys::memfd::MFdFlags::MFD_CLOEXEC);
    fd.expect("memory for a file").into()
}

/// Messages of every socket between roles.
pub fn wire(data: &[u8]) {
    fn one<T: Serialize + DeserializeOwned>(data: &[u8]) {
        let Ok(message) = serde_json::from_slice::<T>(data) else {
            return;
        };
        let text = serde_json::to_string(&message).expect("messages are plain data");
        let again: T = serde_json::from_str(&text).expect("what is sent can be read");
        assert_eq!(text, serde_json::to_string(&again).expect("plain data"));
    }
    if data.len() > MESSAGE_BYTES_MAX {
        return;
    }
    one::<Request>(data);
    one::<Reply>(data);
    one::<relay::wire::Order>(data);
    one::<relay::wire::Event>(data);
    one::<fetch::Request>(data);
    one::<fetch::Response>(data);
    one::<fetch::Wanted>(data);
    one::<fetch::Given>(data);
}

/// Calls that no policy may allow, with arguments that a lax one would.
const FORBIDDEN: [i64; 16] = [
    libc::SYS_mount,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_clone3,
    libc::SYS_ptrace,
    libc::SYS_bpf,
    libc::SYS_seccomp,
    libc::SYS_keyctl,
    libc::SYS_execveat,
    libc::SYS_open_tree,
    libc::SYS_memfd_create,
    libc::SYS_pidfd_getfd,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_process_vm_writev,
];

/// Policies: a whole one, and a difference to the built-in one. Whatever is accepted compiles to
/// programs that the kernel takes, and keeps to the floor.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let head = "format = 1\nbase = \"build\"\nwhy = \"a difference of any kind\"\n";
    for text in [text, &format!("{head}{text}")] {
        for arch in Arch::ALL {
            if let Ok(policy) = Policy::parse_for(arch, "fuzz", text) {
                floor(&policy, arch, data);
            }
        }
    }
}

fn floor(policy: &Policy, arch: Arch, data: &[u8]) {
    let filters = policy.filters();
    let allowed = |number: i64, args: [u64; 6]| {
        let call = Call {
            number: u32::try_from(number).unwrap_or(u32::MAX),
            arch: arch.audit(),
            ip: 0,
            args,
        };
        matches!(decide(&filters, &call), Action::Allow | Action::Log)
    };
    let mut args = [0_u64; 6];
    for (arg, bytes) in args.iter_mut().zip(data.rchunks(8)) {
        *arg = bytes
            .iter()
            .fold(0, |all, byte| all << 8 | u64::from(*byte));
    }
    for args in [[0; 6], [u64::MAX; 6], args] {
        for other in [Arch::X86_64.audit(), Arch::Aarch64.audit(), 0x4000_0003, 0] {
            let call = Call {
                number: 0,
                arch: other,
                ip: 0,
                args,
            };
            let action = decide(&filters, &call);
            assert!(other == arch.audit() || action == Action::KillProcess);
        }
        if arch == Arch::X86_64 {
            assert!((0..600).all(|number| !allowed(0x4000_0000 + number, args)));
        }
        if arch == Arch::HOST {
            assert!(FORBIDDEN.iter().all(|number| !allowed(*number, args)));
            // A family other than AF_INET, a kind other than a stream, a new namespace.
            let with = |at: usize, value: u64| {
                let mut args = args;
                args[at] = value;
                args
            };
            assert!(
                [1, 10, 16, 17, 38, 40]
                    .iter()
                    .all(|family| { !allowed(libc::SYS_socket, with(0, *family)) })
            );
            assert!(
                [2, 3, 5]
                    .iter()
                    .all(|kind| !allowed(libc::SYS_socket, with(1, *kind)))
            );
            for flag in [
                0x80,
                0x2_0000,
                0x200_0000,
                0x400_0000,
                0x1000_0000,
                0x4000_0000,
            ] {
                assert!(!allowed(libc::SYS_clone, with(0, args[0] | flag)));
            }
        }
    }
}

/// A binary of any bytes at the gate.
pub fn gate(data: &[u8]) {
    FILE.with_borrow_mut(|file| relay::fuzzing::gate(data, file));
}

/// A module zip of any bytes: what is accepted is written anew with the same hash, and unpacks to
/// regular files below one folder.
pub fn unpacking(data: &[u8]) {
    const PREFIX: &str = "a.b/c@v1.0.0/";
    let file = memory();
    (&file).write_all(data).expect("memory");
    let Ok(archive) = Archive::open(&file, PREFIX) else {
        return;
    };
    let inside = |path: &str| {
        let parts = || path.split('/');
        let odd = |part: &str| part.is_empty() || part == "." || part == "..";
        !path.starts_with('/') && !path.contains(['\\', '\0', ':']) && !parts().any(odd)
    };
    let names = archive.entries().iter().map(|entry| entry.path(PREFIX));
    assert!(names.clone().all(inside), "{:?}", names.collect::<Vec<_>>());
    let again = memory();
    let Ok(hashed) = modzip::rewrite(&archive, &mut &again) else {
        return;
    };
    let canonical = modzip::hash_zip(&again, PREFIX).expect("what we write, we read");
    assert_eq!((canonical.h1, canonical.bytes), (hashed.h1, hashed.bytes));
    let module = spec::ModuleVersion::parse("a.b/c", "v1.0.0").expect("a module");
    let folder = std::env::temp_dir().join(format!("hotcell-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder of our own");
    let result = unpack(&file, &module, hashed.h1, &folder, &mut |_, _| {});
    let made = count(&folder);
    std::fs::remove_dir_all(&folder).expect("a folder of our own");
    match result {
        Ok(()) => assert_eq!(made, archive.entries().len()),
        Err(UnpackError::Entry(_) | UnpackError::Disk(_)) => {}
        Err(error) => panic!("the same bytes were accepted before: {error}"),
    }
}

/// Regular files below a folder; there is nothing else but folders.
fn count(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).expect("a folder of our own");
    let of = |entry: std::fs::DirEntry| {
        let kind = entry.file_type().expect("of a file of our own");
        assert!(
            kind.is_file() || kind.is_dir(),
            "{}",
            entry.path().display()
        );
        if kind.is_dir() {
            count(&entry.path())
        } else {
            1
        }
    };
    entries.map(|entry| of(entry.expect("of our own"))).sum()
}

/// Texts of visitors and of cells: keys, paths of pages, paths of the module proxy protocol. What
/// is accepted prints back to itself.
pub fn request(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    relay::fuzzing::path(text);
    let same = |printed: Option<String>| {
        assert!(printed.is_none_or(|printed| printed == text), "{text:?}");
    };
    same(spec::BuildKey::parse(text).ok().map(|one| one.to_string()));
    same(spec::Sum::parse(text).ok().map(|one| one.to_string()));
    // People write `linux/amd64`; nothing but a key's form is ever printed.
    let target = spec::Target::parse(text).ok().map(|one| one.to_string());
    assert!(
        target.is_none_or(|printed| printed == text.replacen('/', "-", 1)),
        "{text:?}"
    );
    same(spec::Version::parse(text).ok().map(|one| one.to_string()));
    same(spec::GoVersion::parse(text).ok().map(|one| one.to_string()));
    same(
        spec::ModulePath::parse(text)
            .ok()
            .map(|one| one.to_string()),
    );
    same(
        spec::ModulePath::parse_escaped(text)
            .ok()
            .map(|one| one.escaped()),
    );
    same(
        spec::Version::parse_escaped(text)
            .ok()
            .map(|one| one.escaped()),
    );
    let _query = spec::PackageQuery::parse(text).map(|query| query.candidates());
    if let Ok(path) = spec::url::Path::parse(text) {
        assert!(!text.contains(['\0', '\\', '\n', '\r', '%']), "{path:?}");
        assert!(!text.split('/').any(|part| part == ".."), "{path:?}");
    }
}

/// A connection to the relay.
pub fn connection(data: &[u8]) {
    RUNTIME.with(|runtime| relay::fuzzing::connection(data, runtime));
}

/// Key of the log of the corpus.
const LOG: &str = "build.example.org+7e3e426d+AW56HN0psLeP0Tr0xVmP7/TvKpcWbjym8uT7/M2AUFvx";
/// SHA-256 of the one binary that a receipt of the corpus proves.
const PROVED: &str = "1f7f7111ba9e0b30345e8024f14f46bf0903e81e1a18c01f68b1ecaba49e974c";

/// Receipts, as whole texts and as the extra data of an honest proof, and policies. Whatever checks
/// out by the key of the corpus proves the one honest binary.
pub fn receipt(data: &[u8]) {
    if let Ok(policy) = tlog::Policy::parse(data) {
        assert!(policy.logs().len() <= tlog::policy::DEFINED_MAX);
    }
    if let Ok(proof) = OfflineProof::parse(data) {
        assert_eq!(proof.to_string().as_bytes(), data);
    }
    let key = VerifierKey::parse(LOG).expect("the key of the corpus");
    let policy = tlog::Policy::of_logs(vec![key]);
    let honest = include_bytes!("../fuzz/corpus/receipt/alone");
    let honest = OfflineProof::parse(honest).expect("a proof of the corpus");
    let wrapped = OfflineProof {
        extra: Some(data.to_vec()),
        ..honest
    };
    for text in [data, wrapped.to_string().as_bytes()] {
        if let Ok(proved) = Receipt::parse(text).and_then(|receipt| receipt.check(&policy)) {
            assert_eq!(spec::hex(&proved.companion.sha256), PROVED);
        }
    }
}

/// Key of the log whose heads of 5 and 9 records are in the corpus.
const WITNESSED: &str = "log.example.org+4c9bf558+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs";

/// Requests to a witness. What opens is one of the heads that the log of the corpus has signed, and
/// it is cosigned with nothing but the log's own line.
pub fn witness(data: &[u8]) {
    if let Ok(request) = AddCheckpoint::parse(data) {
        assert_eq!(request.to_string().as_bytes(), data);
    }
    let logs = [VerifierKey::parse(WITNESSED).expect("the key of the corpus")];
    if let Ok(offered) = judge::open(data, &logs) {
        assert!([5, 9].contains(&offered.tree.size));
        let note = tlog::Note::parse(offered.checkpoint.as_bytes()).expect("it was verified");
        assert_eq!(note.signatures().len(), 1);
        assert_eq!(note.verify(&logs[0]), Ok(offered.text.as_str()));
        let other = tlog::Tree {
            size: 3,
            root: tlog::empty_root(),
        };
        assert!(offered.follows(&other).is_err());
    }
}

#[cfg(test)]
#[path = "fuzzing_tests.rs"]
mod tests;
