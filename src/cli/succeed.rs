//! `hotcell log succeed`: ends a log whose data is lost, and begins one that follows it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use serde_json::json;

use super::{
    Stop,
    init::{lies_there, make_own},
    print,
    recover::{self, give},
    say,
    signer::{SignDir, check_name, stop, with_role},
};
use crate::{
    audit,
    log::{self, Archive, Kept, Left, Log, LogConfig, OpenError, SignError, Signer, list},
    receipt::{Follows, KeysLeaf},
    tlog::{Tree, VerifierKey},
};

/// End a log whose data is lost, and begin one that follows it
///
/// There is no way back: the old key never signs again. Use `hotcell log recover --from COPY` when
/// there is any copy of the records. Both logs say what has happened: the last checkpoint of the
/// old one names the new key, leaf 0 of the new one names the old key and its last head. Nobody
/// trusts the new key because of that: give it to your users, and to witnesses, as you gave the old
/// one. What is left of the old data is set aside, read-only. Stop the service first. Run again, it
/// finishes what was interrupted.
#[derive(Debug, Args)]
pub(super) struct Succeed {
    /// Name of the new log's key; another one than that of the old, as both are known by it
    name: String,
    /// The data folder of the old log, or where it was
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    #[command(flatten)]
    keys: SignDir,
    /// Key of the old log; needed when its data folder does not name it
    #[arg(long, value_name = "KEY")]
    verifierkey: Option<String>,
    /// End a log of which nothing is lost, too
    #[arg(long)]
    although_whole: bool,
    /// One JSON document on stdout
    #[arg(long)]
    json: bool,
}

impl Succeed {
    pub(super) fn run(self) -> Result<(), Stop> {
        check_name(&self.name)?;
        let folder = self.keys.outside(&self.data)?;
        let own = self.data.join(LogConfig::FOLDER);
        let failed = |error: &dyn std::error::Error| Stop::chain(Stop::FAILED, error);
        if let Some(keys) = self.begun()? {
            give(&own).map_err(|error| failed(&error))?; // a crash may have come before it
            return self.report(&keys, None);
        }
        let kept = with_role(&folder, |mut operator| {
            operator.keys().map_err(|error| stop(&error))
        })?;
        let old = self.old(&kept)?;
        if old.name() == self.name {
            let text = format!("`{}` is the name of the old log", self.name);
            return Err(Stop::new(Stop::USAGE, text)
                .hint("both are known by their names: choose another one"));
        }
        self.is_of(&old)?;
        let (follows, next) = self.end(&folder, &kept, &old)?;
        let aside = set_aside(&own, &old).map_err(|error| failed(&error))?;
        with_role(&folder, |operator| {
            let signer = operator.open(&next).map_err(|error| stop(&error))?;
            let signer: Arc<dyn Signer> = Arc::new(signer);
            make_own(&self.data, &own)?;
            let config = LogConfig::of(&own);
            let begun = Log::begin_after(&config, signer.as_ref(), &follows);
            let opened = begun.and_then(|()| Log::open(&config, Some(signer)));
            opened.map(drop).map_err(|error| failed(&error))
        })?;
        give(&own).map_err(|error| failed(&error))?;
        match self.begun()? {
            Some(keys) => self.report(&keys, aside.as_deref()),
            None => Err(Stop::new(Stop::FAILED, "the new log did not begin")),
        }
    }

    /// Leaf 0 of the new log, when it is there already.
    fn begun(&self) -> Result<Option<KeysLeaf>, Stop> {
        let Ok(archive) = Archive::open(&self.data) else {
            return Ok(None); // judged below, under the lock
        };
        let named = archive.key().ok().flatten();
        let named = named.and_then(|key| VerifierKey::parse(&key).ok());
        if named.is_none_or(|key| key.name() != self.name) {
            return Ok(None);
        }
        let leaf = archive.leaves(0, 1).unwrap_or_default().into_iter().next();
        let keys = leaf.and_then(|text| KeysLeaf::parse(&text).ok());
        match keys {
            Some(keys) if keys.follows.is_some() => Ok(Some(keys)),
            _ => {
                let folder = self.data.display();
                let text = format!("`{folder}` has a log called `{}` already", self.name);
                let hint = "choose another name for the log that is to follow it";
                Err(Stop::new(Stop::USAGE, text).hint(hint))
            }
        }
    }

    /// The key of the log that ends, or has ended in a run that was interrupted.
    fn old(&self, kept: &[Kept]) -> Result<VerifierKey, Stop> {
        let is_mine = |one: &&Kept| {
            let next = one.next.as_ref();
            next.is_some_and(|next| next.split('+').next() == Some(&*self.name))
        };
        if self.verifierkey.is_none()
            && let Some(ended) = kept.iter().find(is_mine)
        {
            return recover::key(&self.data, Some(&ended.key));
        }
        match recover::key(&self.data, self.verifierkey.as_deref()) {
            Err(error) if self.verifierkey.is_none() && !kept.is_empty() => {
                let hint = format!(
                    "say which log ends with --verifierkey; the signers' folder has the key {}",
                    list(kept)
                );
                Err(error.hint(hint))
            }
            other => other,
        }
    }

    /// Refuses a data folder that is another log's: a name may follow a log of another folder.
    fn is_of(&self, old: &VerifierKey) -> Result<(), Stop> {
        let archive = Archive::open(&self.data).ok();
        let named = archive.and_then(|archive| archive.key().ok().flatten());
        let Some(other) = named.filter(|named| *named != old.to_string()) else {
            return Ok(());
        };
        let folder = self.data.display();
        let text = format!("`{folder}` has the log `{other}`, not `{old}`");
        Err(Stop::new(Stop::USAGE, text).hint("choose the folder, or the name, of one log"))
    }

    /// Ends the old log, unless nothing of it is lost; what the new one has to say, and its key.
    fn end(
        &self,
        folder: &Path,
        kept: &[Kept],
        old: &VerifierKey,
    ) -> Result<(Follows, VerifierKey), Stop> {
        let ended = kept.iter().find(|one| one.key == old.to_string());
        let ended = ended.and_then(|one| one.next.as_deref());
        let known = ended.map(audit::parse_key).transpose();
        let known = known.map_err(|error| Stop::chain(Stop::FAILED, &error))?;
        if let Some(next) = known.as_ref().filter(|next| next.name() != self.name) {
            let text = format!("`{old}` has ended before; `{next}` follows it");
            let hint = format!("to finish that: `hotcell log succeed {}`", next.name());
            return Err(Stop::new(Stop::FAILED, text).hint(hint));
        }
        if let Some(next) = &known {
            has_not_begun(kept, next)?;
        }
        with_role(folder, |operator| {
            let signer = operator.open(old).map_err(|error| match error {
                SignError::StateLost { what } => {
                    let text = format!("the signer of `{old}` is not there, or damaged: {what}");
                    Stop::new(Stop::FAILED, text).hint(
                        "give the folder that holds its keys with --sign-dir; without them the \
                         log can neither grow nor say that it ends: `hotcell log init` begins \
                         another one",
                    )
                }
                error => stop(&error),
            })?;
            let next = match known {
                Some(next) => next,
                None => {
                    self.judge(&signer)?;
                    self.next_key(folder)?
                }
            };
            // From here on the old log has ended.
            let (_, checkpoint): (Tree, _) = signer.end(&next).map_err(|error| stop(&error))?;
            let follows = Follows::new(old, &checkpoint, &next);
            let lied = || Stop::new(Stop::FAILED, "the signer did not end the log");
            Ok((follows.ok_or_else(lied)?, next))
        })
    }

    /// Refuses to end a log of which nothing is lost.
    fn judge(&self, signer: &dyn Signer) -> Result<(), Stop> {
        let config = LogConfig::of(&self.data.join(LogConfig::FOLDER));
        let left = log::left(&config, signer);
        match left {
            Ok(Left::Lost(why)) => {
                say(format_args!("the old log is not whole: {why}"));
                Ok(())
            }
            Err(error @ (OpenError::Locked | OpenError::OtherLog { .. })) => {
                Err(Stop::chain(Stop::FAILED, &error))
            }
            _ if self.although_whole => Ok(()),
            Ok(Left::Whole(size)) => {
                let text = format!(
                    "nothing of `{}` is lost: it has all {size} records that its key has signed",
                    signer.verifier()
                );
                Err(Stop::new(Stop::FAILED, text).hint(
                    "records that were rolled back elsewhere are brought back by `hotcell log \
                     recover --from COPY`; this log goes on when the service is started. To end \
                     it for good all the same: --although-whole",
                ))
            }
            Err(error) => Err(Stop::chain(Stop::FAILED, &error).hint(
                "mend that, or bring the log back with `hotcell log recover --from COPY`; to end \
                 it unseen: --although-whole",
            )),
        }
    }

    fn next_key(&self, folder: &Path) -> Result<VerifierKey, Stop> {
        with_role(folder, |operator| match operator.begin(&self.name) {
            Ok(signer) => Ok(signer.verifier().clone()),
            Err(SignError::Taken { kept }) => {
                let folder = folder.display();
                let text = format!("`{folder}` has the key {}", list(&kept));
                Err(Stop::new(Stop::USAGE, text).hint("choose another name"))
            }
            Err(error) => Err(stop(&error)),
        })
    }

    fn report(&self, keys: &KeysLeaf, aside: Option<&Path>) -> Result<(), Stop> {
        if let Some(follows) = &keys.follows {
            let (old, size) = (&follows.log, follows.tree.size);
            say(format_args!(
                "`{old}` has ended at {size} records and never signs again; this log follows it"
            ));
        }
        if let Some(aside) = aside {
            let aside = aside.display();
            say(format_args!("what was left of its data is in `{aside}`"));
        }
        say(format_args!(
            "now start the service with --name {}, and give this key to your users and witnesses: \
             it is trusted by nobody yet",
            self.name
        ));
        if !self.json {
            return print(&keys.log);
        }
        print(json!({
            "key": keys.log.to_string(),
            "follows": keys.follows.as_ref().map(audit::follows_json),
            "aside": aside,
        }))
    }
}

/// Refuses to begin a log whose key has signed: its data is elsewhere, or lost in its turn.
fn has_not_begun(kept: &[Kept], next: &VerifierKey) -> Result<(), Stop> {
    let key = next.to_string();
    let begun = kept
        .iter()
        .find(|one| one.key == key && one.size != Some(0));
    let Some(begun) = begun else {
        return Ok(());
    };
    let text = format!("the log that follows has begun: {begun}; its data is not here");
    let hint = format!(
        "name its folder with --data; if that is lost: `hotcell log recover --from COPY \
         --verifierkey '{key}'`, or let another one follow it with that --verifierkey"
    );
    Err(Stop::new(Stop::FAILED, text).hint(hint))
}

/// Sets aside what is left of a log, if anything is; also a database that names no log any more.
fn set_aside(own: &Path, old: &VerifierKey) -> io::Result<Option<PathBuf>> {
    let has_database = LogConfig::of(own).database.try_exists()?;
    match has_database || !lies_there(own)?.is_empty() {
        true => log::set_aside(own, old).map(Some),
        false => Ok(None),
    }
}
