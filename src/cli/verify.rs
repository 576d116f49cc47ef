//! `hotcell verify`: what a receipt proves about a file, without a network; and with `--against`,
//! what other instances say.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    Stop,
    against::{self, Instance, Subject},
    print, xdg,
};
use crate::{
    get,
    provenance::{observation::key_text, rfc3339},
    receipt::{Proved, RECEIPT_BYTES_MAX, Receipt, ReceiptError, SUFFIX},
    spec::hex,
    store::durable,
    tlog::{
        Policy, VerifierKey,
        policy::{CheckpointError, POLICY_BYTES_MAX, PolicyError},
    },
};

/// Bytes of a file that are read at once.
const CHUNK_BYTES: usize = 64 * 1024;

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The binary
    file: PathBuf,
    /// Its receipt [default: FILE.receipt]
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// Logs and witnesses to believe, as a C2SP tlog-policy file
    #[arg(long, value_name = "FILE", conflicts_with = "verifierkey")]
    policy: Option<PathBuf>,
    /// Key of a log to believe; several are alternatives [default: the keys that `get` was given,
    /// in the state folder of this user]
    #[arg(long, value_name = "KEY")]
    verifierkey: Vec<String>,
    /// Ask these instances what they get when they build it: addresses, or `ed25519:KEY@URL` with
    /// the `dsse` key of leaf 0 of the instance's log. Works with the unsigned statement of
    /// `hotcell build` in the place of a receipt
    #[arg(long, value_name = "URL", num_args = 1.., value_parser = Instance::parse)]
    against: Vec<Instance>,
    /// One JSON document on stdout
    #[arg(long)]
    json: bool,
}

/// What was proved, about which file, by which rule.
struct Verified<'a> {
    file: &'a Path,
    receipt: PathBuf,
    quorum: Option<String>,
    proved: Proved,
}

impl Verify {
    pub(super) fn run(self) -> Result<(), Stop> {
        let state = || xdg("XDG_STATE_HOME", ".local/state");
        if !self.against.is_empty() {
            return self.ask_others(state);
        }
        let verified = self.verify(state)?;
        match self.json {
            true => print(verified.json()),
            false => print(verified.text().trim_end()),
        }
    }

    /// What the receipt proves, if there is one, and what other instances say.
    fn ask_others(&self, state: impl FnOnce() -> Result<PathBuf, Stop>) -> Result<(), Stop> {
        let (verified, subject) = self.subject(state)?;
        let words = against::ask_all(subject.clone(), &self.against)?;
        let (mut json, text) = match verified {
            Some(verified) => (verified.json(), verified.text()),
            None => {
                let (key, sha256) = (subject.key.to_string(), hex(&subject.sha256));
                let file = self.file.display();
                let text = format!(
                    "file      {file}\nbuild     {key}, as an unsigned statement says: no log was \
                     asked\nsha256    {sha256}\n"
                );
                let json = json!({
                    "file": self.file, "receipt": null, "key": key, "sha256": sha256,
                    "size": subject.size,
                });
                (json, text)
            }
        };
        json["against"] = words.json();
        match self.json {
            true => print(json)?,
            false => print(format!("{text}{}", words.text()).trim_end())?,
        }
        words.check()
    }

    /// What is asked about: by the receipt, which is verified then, or by an unsigned statement.
    fn subject(
        &self,
        state: impl FnOnce() -> Result<PathBuf, Stop>,
    ) -> Result<(Option<Verified<'_>>, Subject), Stop> {
        if self.receipt.is_none() && !self.receipt().exists() {
            let (sha256, size) =
                digest(&self.file, u64::MAX - 1).map_err(|error| unreadable(&self.file, error))?;
            if let Some(key) = against::unsigned(&self.file, &sha256)? {
                return Ok((None, Subject { key, sha256, size }));
            }
        }
        let verified = self.verify(state)?;
        let Proved {
            record, companion, ..
        } = &verified.proved;
        let subject = Subject {
            key: record.key.clone(),
            sha256: companion.sha256,
            size: record.size,
        };
        Ok((Some(verified), subject))
    }

    fn receipt(&self) -> PathBuf {
        self.receipt.clone().unwrap_or_else(|| {
            let mut name = self.file.as_os_str().to_owned();
            name.push(SUFFIX);
            name.into()
        })
    }

    /// `state` is `$XDG_STATE_HOME/hotcell`, asked for only when no key was given.
    fn verify(&self, state: impl FnOnce() -> Result<PathBuf, Stop>) -> Result<Verified<'_>, Stop> {
        let policy = self.trusted(state)?;
        let path = self.receipt();
        let text = match durable::read_bounded(&path, RECEIPT_BYTES_MAX) {
            Ok(Some(text)) => text,
            Ok(None) => {
                let text = format!("there is no receipt `{}`", path.display());
                let hint =
                    "hotcell get writes a receipt beside the binary; --receipt names another";
                return Err(Stop::new(Stop::FAILED, text).hint(hint));
            }
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                let text = format!("the receipt has more than {RECEIPT_BYTES_MAX} bytes");
                return Err(Stop::new(Stop::WRONG, text));
            }
            Err(error) => return Err(unreadable(&path, error)),
        };
        let receipt = Receipt::parse(&text).map_err(wrong)?;
        let proved = receipt.check(&policy).map_err(wrong)?;
        let (sha256, size) = digest(&self.file, proved.record.size)
            .map_err(|error| unreadable(&self.file, error))?;
        proved.is_binary(&sha256, size).map_err(wrong)?;
        Ok(Verified {
            file: &self.file,
            receipt: path,
            quorum: policy.quorum().map(str::to_owned),
            proved,
        })
    }

    /// Whose word counts: from the command line, or what this user believed before. Never the
    /// receipt's own.
    fn trusted(&self, state: impl FnOnce() -> Result<PathBuf, Stop>) -> Result<Policy, Stop> {
        let usage = |text: String| Stop::new(Stop::USAGE, text);
        if !self.verifierkey.is_empty() {
            let key = |text: &String| {
                let key = VerifierKey::parse(text);
                key.map_err(|error| usage(format!("--verifierkey: {error}")))
            };
            let keys = self.verifierkey.iter().map(key);
            return Ok(Policy::of_logs(keys.collect::<Result<_, _>>()?));
        }
        let policy = match &self.policy {
            Some(path) => {
                let bytes = match durable::read_bounded(path, POLICY_BYTES_MAX) {
                    Ok(bytes) => bytes.ok_or(io::ErrorKind::NotFound.into()),
                    Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                        return Err(Stop::chain(Stop::USAGE, &PolicyError::TooLong));
                    }
                    Err(error) => Err(error),
                };
                let bytes = bytes.map_err(|error| unreadable(path, error))?;
                let parsed = Policy::parse(&bytes);
                Some(parsed.map_err(|error| Stop::chain(Stop::USAGE, &error))?)
            }
            None => None,
        };
        match policy {
            Some(policy) if !policy.logs().is_empty() => Ok(policy),
            other => {
                let keys = get::known_keys(&state()?);
                if keys.is_empty() {
                    let text = "no key of a log is known here, and a key in the receipt would \
                                prove nothing";
                    let hint = "give --verifierkey KEY (the instance's page shows it), or a \
                                --policy FILE with a line `log KEY`";
                    return Err(usage(text.to_owned()).hint(hint));
                }
                Ok(match other {
                    Some(policy) => policy.with_logs(keys),
                    None => Policy::of_logs(keys),
                })
            }
        }
    }
}

/// SHA-256 and size of a file; of at most one byte more than it should have.
fn digest(path: &Path, size: u64) -> io::Result<([u8; 32], u64)> {
    let mut file = File::open(path)?.take(size.saturating_add(1));
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok((hasher.finalize().into(), bytes)),
            count => {
                hasher.update(&chunk[..count]);
                bytes += count as u64;
            }
        }
    }
}

fn unreadable(path: &Path, error: io::Error) -> Stop {
    let text = format!("cannot read `{}`: {error}", path.display());
    Stop::new(Stop::FAILED, text)
}

fn wrong(error: ReceiptError) -> Stop {
    let stop = Stop::chain(Stop::WRONG, &error);
    match error {
        ReceiptError::Size { .. } | ReceiptError::Sha256 { .. } => {
            stop.hint("do not run it; hotcell get fetches the file and its receipt again")
        }
        ReceiptError::Checkpoint(CheckpointError::Origin { .. }) => {
            stop.hint("if you believe this log, give its key with --verifierkey or --policy")
        }
        _ => stop,
    }
}

impl Verified<'_> {
    /// A few lines for a person.
    fn text(&self) -> String {
        let Proved {
            record,
            companion,
            checkpoint,
            claims,
        } = &self.proved;
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            writeln!(text, "{name:<9} {value}").expect("a string takes all text");
        };
        line("file", self.file.display().to_string());
        line("build", record.key.to_string());
        line("sha256", hex(&companion.sha256));
        line("sum", format!("{} ({} bytes)", record.sum, record.size));
        line("log", checkpoint.log.to_string());
        let index = companion.record_index;
        let size = checkpoint.tree.size;
        line(
            "record",
            format!(
                "leaf {index}, companion leaf {}, of {size} leaves",
                index + 1
            ),
        );
        for cosigned in &checkpoint.cosigned {
            let when = rfc3339(cosigned.time_s.saturating_mul(1000));
            line("cosigned", format!("{when} by {}", cosigned.witness));
        }
        line(
            "quorum",
            self.quorum.clone().unwrap_or("none asked for".to_owned()),
        );
        let sdk = claims.dependencies.first().map_or("no", |sdk| &sdk.uri);
        let sdk = sdk.strip_prefix("pkg:golang/").unwrap_or(sdk);
        line("modules", claims.modules().to_string());
        line("sdk", escaped(sdk));
        let policy = (escaped(&claims.policy), escaped(&claims.policy_sha256));
        line("cell", format!("policy {}, sha256 {}", policy.0, policy.1));
        let (finished, builder) = (escaped(&claims.finished), escaped(&claims.builder));
        line("built", format!("{finished} by {builder}"));
        for observed in &claims.observed {
            let bits = if observed.same { "same" } else { "OTHER" };
            let (name, key) = (escaped(&observed.verifier), key_text(&observed.key));
            line("observed", format!("{bits} bits, signed by {name}, {key}"));
        }
        text
    }

    /// The document of `--json`.
    fn json(&self) -> Value {
        let Proved {
            record,
            companion,
            checkpoint,
            claims,
        } = &self.proved;
        let cosigned: Vec<Value> = checkpoint
            .cosigned
            .iter()
            .map(
                |it| json!({"witness": it.witness, "key": it.key.to_string(), "time_s": it.time_s}),
            )
            .collect();
        let dependencies: Vec<Value> = claims
            .dependencies
            .iter()
            .map(|it| json!({"uri": it.uri, "h1": it.h1}))
            .collect();
        let observed = claims.observed.iter();
        let observed: Vec<Value> = observed
            .map(|it| {
                let key = key_text(&it.key);
                json!({"verifier": it.verifier, "key": key, "same": it.same})
            })
            .collect();
        json!({
            "file": self.file,
            "receipt": self.receipt,
            "key": record.key.to_string(),
            "sum": record.sum.to_string(),
            "sha256": hex(&companion.sha256),
            "size": record.size,
            "log": checkpoint.log.to_string(),
            "log_index": companion.record_index,
            "log_size": checkpoint.tree.size,
            "log_root": checkpoint.tree.root.to_string(),
            "cosigned": cosigned,
            "quorum": self.quorum,
            "provenance_sha256": hex(&companion.provenance_sha256),
            "policy": { "name": claims.policy, "sha256": claims.policy_sha256 },
            "dependencies": dependencies,
            "builder": claims.builder,
            "finished": claims.finished,
            "observed": observed,
        })
    }
}

/// Texts of a statement are the log's word; a terminal obeys none of them.
fn escaped(text: &str) -> String {
    text.escape_debug().to_string()
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
