//! What a role is started with: its arguments, and where its socket is.
//!
//! Called by each role's start. Must never take a socket from anybody but its starter.

use std::{fs, io, os::fd::AsFd as _, path::PathBuf};

use hotcell_sandbox::{channel::Channel, privilege};

use super::socket;

/// What follows the name of a role.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// Whether a service manager passes the socket.
    pub(super) activated: bool,
    /// A folder of policies, of the supervisor only.
    pub(super) policies: Option<PathBuf>,
}

impl Given {
    pub(super) fn parse(arguments: &[String]) -> Result<Self, Box<dyn std::error::Error>> {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match words[..] {
            [] => Ok(Self::default()),
            ["--activated"] => Ok(Self {
                activated: true,
                policies: None,
            }),
            ["--activated", "--policies", folder] => Ok(Self {
                activated: true,
                policies: Some(PathBuf::from(folder)),
            }),
            _ => Err("a role takes --activated, and `supervise` also --policies DIR".into()),
        }
    }

    /// The socket of this role, whoever passed it.
    pub(super) fn control(&self, role: &str) -> Result<Channel, Box<dyn std::error::Error>> {
        if self.activated {
            Ok(socket::accept(role)?)
        } else {
            Ok(control()?)
        }
    }

    /// A role that `serve` has started dies with it.
    pub(super) fn die_with_parent(&self) -> io::Result<()> {
        if self.activated {
            return Ok(()); // its parent is the service manager; it ends when its socket closes
        }
        privilege::die_with_parent()
    }
}

/// Takes the socket from standard input and leaves `/dev/null` there.
fn control() -> io::Result<Channel> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    nix::unistd::dup2_stdin(fs::File::open("/dev/null")?)?;
    Ok(Channel::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_takes_no_other_arguments() {
        let parse = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Given::parse(&words)
        };
        assert!(!parse(&[]).unwrap().activated);
        assert!(parse(&["--activated"]).unwrap().activated);
        let given = parse(&["--activated", "--policies", "/etc/hotcell"]).unwrap();
        assert_eq!(given.policies, Some(PathBuf::from("/etc/hotcell")));
        for words in [
            &["--policies", "/tmp"][..],
            &["--activated", "--policies"],
            &["--activated", "--activated"],
            &["x"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
