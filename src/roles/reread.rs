//! The role `config`: reads the configuration file again for a `serve` that can reach no file.
//!
//! It keeps the user that started the program, so that the file may be that user's alone, and has
//! the rules of a relay: one folder to read, here that of the file, and one socket. It understands
//! neither the file nor the question, must never read another file, and never writes.

use std::{
    fs::OpenOptions,
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

use super::{RoleResult, StartError, given::Given, launch, say, socket};

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
    if given.activated {
        return Err("the role `config` is started by `serve`".into());
    }
    let control = given.control("config")?;
    let Some(name) = control.receive_start::<PathBuf>()? else {
        return Ok(());
    };
    privilege::give_up(None)?;
    given.die_with_parent()?;
    let here = socket::here()?;
    privilege::confine(Role::Relay, here.as_fd(), &[])?;
    while control.receive::<u8>()?.is_some() {
        control.send(&read_config(&name), &[])?;
    }
    Ok(())
}

/// Reads a configuration file.
///
/// # Errors
/// A sentence, when it cannot be read, is no file, too long, or no text.
pub fn read_config(path: &Path) -> Text {
    let mut options = OpenOptions::new();
    let opened = options.read(true).custom_flags(O_NONBLOCK).open(path); // a fifo must not block
    let file = opened.map_err(|error| format!("cannot be read: {error}"))?;
    let mut bytes = Vec::new();
    let read = file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        return Err(format!("is longer than {CONFIG_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is no text in UTF-8".to_owned())
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
