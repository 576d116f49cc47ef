//! `hotcell log keygen`: makes a log's key ahead of the first `serve`.

use clap::Args;
use serde_json::json;

use super::{
    Stop, print, say,
    signer::{SignDir, check_name, stop, with_role},
};
use crate::log::{SignError, Signer as _, list};

/// Make the keys of a log ahead of its first start, and print the verifier key
///
/// The first `serve --name NAME` (or `log init`) with an empty data folder and the same --sign-dir
/// uses them. What is printed is public: give it to whoever is to verify your builds.
#[derive(Debug, Args)]
pub(super) struct Keygen {
    /// Name of the key: the host name of the service that is to be
    #[arg(long, default_value = "localhost")]
    name: String,
    #[command(flatten)]
    keys: SignDir,
    /// One JSON document on stdout
    #[arg(long)]
    json: bool,
}

impl Keygen {
    pub(super) fn run(self) -> Result<(), Stop> {
        check_name(&self.name)?;
        let folder = self.keys.path()?;
        let made = with_role(&folder, |operator| match operator.generate(&self.name) {
            Ok(signer) => Ok(signer.verifier().clone()),
            Err(SignError::Taken { kept }) => Err(taken(&kept)),
            Err(error) => Err(stop(&error)),
        });
        let key = made?;
        let folder = folder.join(key.id());
        say(format_args!(
            "the secrets lie in `{}`: whoever has its `log.key` and `statement.key` signs as this \
             log\n\
             back that folder up now, as a whole, where nobody else reads it; its `last` remembers \
             what was signed, and a copy of it is old once the log grows: bring one back only \
             together with the newest data folder",
            folder.display()
        ));
        match self.json {
            true => print(json!({ "key": key.to_string(), "folder": folder })),
            false => print(key),
        }
    }
}

fn taken(kept: &[crate::log::Kept]) -> Stop {
    let text = format!(
        "nothing was made: the signers' folder has the key {}",
        list(kept)
    );
    Stop::new(Stop::FAILED, text).hint(match kept {
        [one] if one.is_unused() => {
            "the first `hotcell serve` with this --name and an empty data folder uses it"
        }
        _ => "choose another --name, or another --sign-dir; never delete a key that has signed",
    })
}
