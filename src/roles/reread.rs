//! Roles that read files again for a `serve` that can reach none: `config` the configuration file,
//! and [`super::certificate`].
//!
//! Such a role keeps the user that started the program, so that the files may be that user's alone,
//! and has the rules of a relay: folders to read, here those of the files, and one socket. It
//! understands neither the files nor the question, must never read another file, and never writes.

use std::{
    fs::{File, OpenOptions},
    io::Read as _,
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::Child,
};

use hotcell_sandbox::{
    channel::Channel,
    privilege::{self, Role},
};
use nix::libc::O_NONBLOCK;
use serde::{Serialize, de::DeserializeOwned};

use super::{RoleResult, StartError, given::Given, launch, say, socket};
use crate::channel::AsyncChannel;

/// Longest configuration file, in bytes: four times that of `hotcell config`, and even with each
/// byte escaped one message.
pub const CONFIG_BYTES_MAX: u64 = 30 * 1024;

/// The file, or why it cannot be read.
pub type Text = Result<String, String>;

/// Starts the role for the file `name` in `folder` and adds it to the children. Any byte on the
/// socket asks for a [`Text`]. Called as [`start`](super::start) is.
///
/// # Errors
/// See [`StartError`].
pub fn start_config(
    folder: &Path,
    name: &Path,
    children: &mut Vec<(&'static str, Child)>,
) -> Result<Channel, StartError> {
    let channel = launch("config", folder, &[], children)?;
    say("config", &channel, &name)?;
    Ok(channel)
}

pub(super) fn run(given: &Given) -> RoleResult {
    read_when_asked(
        given,
        "config",
        |_| Vec::new(),
        |name: &PathBuf| read_config(name),
    )
}

/// A role that reads: what is the first message to it, from where it may read beside its own
/// folder, and how.
pub(super) fn read_when_asked<F: DeserializeOwned, A: Serialize>(
    given: &Given,
    role: &'static str,
    folders: fn(&F) -> Vec<PathBuf>,
    read: fn(&F) -> A,
) -> RoleResult {
    if given.activated {
        return Err(format!("the role `{role}` is started by `serve`").into());
    }
    let control = given.control(role)?;
    let Some(files) = control.receive_start::<F>()? else {
        return Ok(());
    };
    privilege::give_up(None)?;
    given.die_with_parent()?;
    let here = socket::here()?;
    privilege::confine(Role::Relay, here.as_fd(), &folders(&files))?;
    while control.receive::<u8>()?.is_some() {
        control.send(&read(&files), &[])?;
    }
    Ok(())
}

/// Has such a role read; nothing when it is gone.
pub async fn read_again<A: DeserializeOwned>(channel: &AsyncChannel) -> Option<A> {
    channel.send(&1_u8, &[]).await.ok()?;
    let (answer, _) = channel.receive::<A>().await.ok()??;
    Some(answer)
}

/// Reads a configuration file.
///
/// # Errors
/// A sentence, when it cannot be read, is no file, too long, or no text.
pub fn read_config(path: &Path) -> Text {
    let bytes = read_file(path, CONFIG_BYTES_MAX, |_| Ok(()))?;
    String::from_utf8(bytes).map_err(|_| "is no text in UTF-8".to_owned())
}

/// Reads a file of at most so many bytes that passes `check` when it is open.
pub(super) fn read_file(
    path: &Path,
    most: u64,
    check: fn(&File) -> Result<(), String>,
) -> Result<Vec<u8>, String> {
    let unreadable = |error| format!("cannot be read: {error}");
    let mut options = OpenOptions::new();
    let opened = options.read(true).custom_flags(O_NONBLOCK).open(path); // a fifo must not block
    let file = opened.map_err(unreadable)?;
    check(&file)?;
    let mut bytes = Vec::new();
    let read = file.take(most + 1).read_to_end(&mut bytes);
    read.map_err(unreadable)?;
    match bytes.len() as u64 > most {
        true => Err(format!("is longer than {most} bytes")),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::durable;

    #[test]
    fn a_file_is_read_up_to_its_maximum_and_everything_else_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            durable::write_new(&path, bytes, 0o600).unwrap();
            read_config(&path)
        };
        let most = usize::try_from(CONFIG_BYTES_MAX).unwrap();
        assert_eq!(write("a", b"x = 1\n").unwrap(), "x = 1\n");
        assert_eq!(write("b", &vec![b'#'; most]).unwrap().len(), most);
        assert!(
            write("c", &vec![b'#'; most + 1])
                .unwrap_err()
                .contains("longer")
        );
        assert!(write("d", b"\xff").unwrap_err().contains("UTF-8"));
        assert!(read_config(folder.path()).is_err());
        assert!(read_config(&folder.path().join("none")).is_err());
    }

    #[test]
    fn the_longest_file_fits_into_one_message() {
        let (ours, theirs) = Channel::pair().unwrap();
        let most = usize::try_from(CONFIG_BYTES_MAX).unwrap();
        let text: Text = Ok("\"".repeat(most));
        ours.send(&text, &[]).unwrap();
        assert_eq!(theirs.receive::<Text>().unwrap().unwrap().0, text);
    }
}
