//! What a cell may send to its relay and leave at the gate, tried with any bytes.
//!
//! Called by [`crate::fuzzing`] only; never part of a program that builds anything.

use std::{cmp::Reverse, collections::HashSet, convert::Infallible, fs::File, io::Write as _};

use http_body_util::Empty;
use hyper::{Response, body::Bytes, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{buildinfo, code, http, path, wire};
use crate::{
    build::Code,
    fetch::wire::{ModuleHash, Want},
};

/// The text of an honest binary.
const TEXT: &str = "path\ta.b/c/cmd/x\nmod\ta.b/c\tv1.0.0\th1:AA=\ndep\td.e/f\tv0.1.0\th1:BB=\n";
const START: &[u8] = b"\x30\x77\xaf\x0c\x92\x74\x08\x02\x41\xe1\xc1\x07\xe6\xd6\x18\xe6";
const END: &[u8] = b"\xf9\x32\x43\x31\x86\x18\x20\x72\x00\x82\x42\x10\x41\x16\xd8\xf2";

/// A binary of any bytes, and the same bytes around honest build information: these may hide it
/// by their number only, and then say so.
pub(crate) fn gate(data: &[u8], file: &mut File) {
    let served = [("a.b/c", "v1.0.0", "h1:AA="), ("d.e/f", "v0.1.0", "h1:BB=")];
    let served: wire::Served = served
        .iter()
        .map(|(path, version, h1)| ModuleHash {
            path: (*path).to_owned(),
            version: (*version).to_owned(),
            h1: Some((*h1).to_owned()),
            go_mod_h1: None,
        })
        .collect();
    let agrees =
        |info: &buildinfo::BuildInfo| info.agrees("a.b/c/cmd/x", ("a.b/c", "v1.0.0"), &served);
    let mut find = |parts: &[&[u8]]| {
        file.set_len(0).expect("memory");
        std::io::Seek::rewind(file).expect("memory");
        file.write_all(&parts.concat()).expect("memory");
        buildinfo::find(file).expect("memory can be read")
    };
    for info in find(&[data]).infos.iter().filter(|info| agrees(info)) {
        let in_data = |text: &str| data.windows(text.len()).any(|one| one == text.as_bytes());
        assert!(in_data("mod\ta.b/c\tv1.0.0\th1:AA="), "{info:?}");
    }
    let (before, after) = data.split_at(data.len() / 2);
    let found = find(&[before, START, TEXT.as_bytes(), END, after]);
    assert!(
        !found.complete || found.infos.iter().any(agrees),
        "{found:?}"
    );
    let lie = TEXT.replace("BB=", "CC=");
    let found = find(&[START, lie.as_bytes(), END, data]);
    assert!(
        data.windows(16).any(|one| one == START) || !found.infos.iter().any(agrees),
        "{found:?}"
    );
    find(&[data]);
    for code in code::tried(file, "a.b/c/cmd/x") {
        assert!(code.packages.len() <= Code::PACKAGES_MAX);
        assert!(
            code.packages.is_sorted_by_key(|one| Reverse(one.bytes)),
            "{code:?}"
        );
        let paths = code.packages.iter().map(|one| one.path.as_str());
        let known = |path: &str| path == "a.b/c/cmd/x" || !path.contains(['%', '[', '(', ' ']);
        assert!(paths.clone().all(known), "{code:?}");
        assert_eq!(paths.collect::<HashSet<_>>().len(), code.packages.len());
    }
}

/// A path as the cell sends it.
pub(crate) fn path(text: &str) {
    let Some(path::Asked::Want(want)) = path::parse(text) else {
        return;
    };
    let (module, version) = match &want {
        Want::List { path } => (path, None),
        Want::Info(member) | Want::Mod(member) | Want::Zip(member) => {
            (&member.path, Some(&member.version))
        }
    };
    for part in module.split('/').chain(version.map(String::as_str)) {
        assert!(
            !part.is_empty() && !part.starts_with('.'),
            "{text:?}: {want:?}"
        );
        let clean = |letter: char| letter.is_ascii_graphic() && !"\\%?#:".contains(letter);
        assert!(part.chars().all(clean), "{text:?}: {want:?}");
    }
    // One file has one spelling: what is asked for prints back to what was sent.
    let escape = |text: &str| {
        text.chars().fold(String::new(), |all, letter| {
            if letter.is_ascii_uppercase() {
                all + "%21" + &letter.to_ascii_lowercase().to_string()
            } else {
                all + &letter.to_string()
            }
        })
    };
    let file = match &want {
        Want::List { .. } => "list".to_owned(),
        Want::Info(member) => format!("{}.info", escape(&member.version)),
        Want::Mod(member) => format!("{}.mod", escape(&member.version)),
        Want::Zip(member) => format!("{}.zip", escape(&member.version)),
    };
    let again = format!("/{}/@v/{file}", escape(module));
    assert_eq!(again, text.replace('!', "%21"), "{want:?}");
}

/// A connection as the cell sends it: whatever the bytes are, what is answered was asked in the
/// grammar, and the connection ends.
pub(crate) fn connection(data: &[u8], runtime: &tokio::runtime::Runtime) {
    runtime.block_on(async {
        let (mut cell, relay) = tokio::io::duplex(data.len() + 1);
        cell.write_all(data).await.expect("there is room");
        cell.shutdown().await.expect("the other end is open");
        let service = service_fn(|request: hyper::Request<_>| async move {
            path(&request.uri().to_string());
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        });
        let served = http::protocol().serve_connection(TokioIo::new(relay), service);
        let mut answer = Vec::new();
        let read = cell.read_to_end(&mut answer);
        let (served, read) = tokio::join!(served, read);
        read.expect("memory can be read");
        assert!(served.is_err() || answer.is_empty() || answer.starts_with(b"HTTP/1."));
    });
}
