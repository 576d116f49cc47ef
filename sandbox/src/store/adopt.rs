//! Adoption of an SDK: copied, hashed, and compared with what the checksum database vouches for.

use std::os::fd::{AsFd as _, BorrowedFd};

use super::{
    Header, Name, Staged, StoreError,
    copy::{self, Rules, Take},
    hash1, lines,
};

/// The module that Go SDKs come as, for this machine.
pub(super) fn prefix(go: &str) -> String {
    format!("golang.org/toolchain@v0.0.1-{go}.linux-amd64")
}

/// Copies the folder into the store when its directory hash is `h1`.
///
/// # Errors
/// When it is not, or the tree breaks a rule; nothing is kept then.
pub(crate) fn adopt(
    from: BorrowedFd<'_>,
    name: &Name,
    go: &str,
    h1: &str,
) -> Result<(), StoreError> {
    let (staged, to) = Staged::new(name)?;
    let rules = Rules {
        take,
        modified_s: None,
    };
    let mut entries = copy::copy(from, to.as_fd(), &rules)?;
    let got = hash1::hash1(&prefix(go), &entries);
    if got != h1 {
        return Err(StoreError::Hash {
            got,
            wanted: h1.to_owned(),
        });
    }
    let header = Header {
        title: go.to_owned(),
        digest: got,
        bytes: entries.iter().map(|entry| entry.bytes).sum(),
        files: entries.len() as u64,
    };
    staged.publish(name, &header, &lines(&mut entries))
}

/// Module zips carry no modes: the programs are those in `bin` and `pkg/tool/<platform>`.
fn take(path: &str, _folder: bool) -> Take {
    let parts: Vec<&str> = path.split('/').collect();
    let program = matches!(parts[..], ["bin", _] | ["pkg", "tool", _, _]);
    Take::With(if program { 0o555 } else { 0o444 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_those_in_bin_and_tool_folders() {
        for (path, mode) in [
            ("bin/go", 0o555),
            ("pkg/tool/linux_amd64/compile", 0o555),
            ("pkg/include/asm.h", 0o444),
            ("src/bin/go", 0o444),
            ("bin/a/b", 0o444),
            ("VERSION", 0o444),
        ] {
            assert_eq!(take(path, false), Take::With(mode), "{path}");
        }
    }
}
