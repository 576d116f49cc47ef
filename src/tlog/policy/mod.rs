//! Whose word on a checkpoint is enough: C2SP tlog-policy files, and checkpoints against them.
//!
//! Format: C2SP `tlog-policy.md` at commit 5ba5ee8 (2026-07-22). Read by `verify`. Names are bytes
//! and nothing else; a name is defined once, above its use, and is a member of at most one group. A
//! policy with a key that is not known here is refused as a whole: nobody shall believe that a
//! witness counts who never can.

mod error;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use super::{
    Note, NoteError, Tree, VerifierKey, WitnessKey,
    text::{parse_checkpoint, parse_decimal},
};
pub use error::{CheckpointError, LineError, PolicyError};

/// Longest policy file, in bytes: all that may be in it, with URLs and comments.
pub const POLICY_BYTES_MAX: usize = 64 * 1024;
/// Most logs, most witnesses and most groups; the specification asks for at least 32 of each.
pub const DEFINED_MAX: usize = 64;

/// Logs, witnesses, and which of them are enough.
#[derive(Debug, Clone)]
pub struct Policy {
    logs: Vec<VerifierKey>,
    witnesses: Vec<(String, WitnessKey)>,
    groups: Vec<Group>,
    quorum: Option<(String, Member)>,
}

#[derive(Debug, Clone)]
struct Group {
    needed: usize,
    members: Vec<Member>,
}

#[derive(Debug, Clone, Copy)]
enum Member {
    Witness(usize),
    Group(usize),
}

/// A checkpoint that a policy accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The key that signed it; its name is the origin.
    pub log: VerifierKey,
    /// Size and root.
    pub tree: Tree,
    /// Witnesses of the policy that cosigned.
    pub cosigned: Vec<Cosigned>,
}

/// A witness that cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigned {
    /// Its name in the policy, escaped.
    pub witness: String,
    /// Its key.
    pub key: WitnessKey,
    /// When, in seconds since 1970 of the witness's clock.
    pub time_s: u64,
}

impl Policy {
    /// Parses a policy file.
    ///
    /// # Errors
    /// Names the line and what to write instead.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > POLICY_BYTES_MAX {
            return Err(PolicyError::TooLong);
        }
        let body = match bytes.split_last() {
            Some((b'\n', body)) => body,
            Some(_) => return Err(PolicyError::Cut),
            None => return Err(PolicyError::NoQuorum),
        };
        let mut reader = Reader::default();
        for (at, line) in body.split(|byte| *byte == b'\n').enumerate() {
            let number = at + 1;
            let read = reader.line(line);
            read.map_err(|why| PolicyError::Line { number, why })?;
        }
        let quorum = reader.quorum.ok_or(PolicyError::NoQuorum)?;
        Ok(Self {
            quorum,
            ..reader.policy
        })
    }

    /// The policy that these logs are believed without any witness.
    pub fn of_logs(logs: Vec<VerifierKey>) -> Self {
        Self {
            logs,
            ..Self::empty()
        }
    }

    /// The same rules for other logs.
    pub fn with_logs(self, logs: Vec<VerifierKey>) -> Self {
        Self { logs, ..self }
    }

    /// Keys of the logs that are believed; a policy may leave them to its user.
    pub fn logs(&self) -> &[VerifierKey] {
        &self.logs
    }

    /// Name of the quorum; nothing when no cosignature is needed.
    pub fn quorum(&self) -> Option<&str> {
        self.quorum.as_ref().map(|(name, _)| name.as_str())
    }

    /// Accepts a checkpoint that a key of a log with its origin has signed and a quorum of
    /// witnesses has cosigned.
    ///
    /// # Errors
    /// Says what is missing or wrong. A wrong signature of any known key refuses the checkpoint.
    pub fn accept(&self, checkpoint: &[u8]) -> Result<Accepted, CheckpointError> {
        let note = Note::parse(checkpoint).map_err(CheckpointError::Note)?;
        let (origin, tree) = parse_checkpoint(note.text()).map_err(|_| CheckpointError::Head)?;
        let origin = || shown(origin.as_bytes());
        let named = |key: &&VerifierKey| note.text().lines().next() == Some(key.name());
        let mut known = self.logs.iter().filter(named).peekable();
        if known.peek().is_none() {
            return Err(CheckpointError::Origin { origin: origin() });
        }
        let mut signer = None;
        for key in known {
            match note.verify(key) {
                Ok(_) => signer = signer.or(Some(key)),
                Err(NoteError::Unsigned { .. }) => {}
                Err(error) => return Err(CheckpointError::Note(error)),
            }
        }
        let log = signer.ok_or_else(|| CheckpointError::Unsigned { origin: origin() })?;
        let cosigned = self.cosigned(&note)?;
        Ok(Accepted {
            log: log.clone(),
            tree,
            cosigned,
        })
    }

    /// The witnesses that cosigned, if they are a quorum.
    fn cosigned(&self, note: &Note) -> Result<Vec<Cosigned>, CheckpointError> {
        let mut times = Vec::with_capacity(self.witnesses.len());
        for (_, key) in &self.witnesses {
            times.push(key.cosigned(note).map_err(CheckpointError::Note)?);
        }
        let mut groups: Vec<bool> = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            // A group has earlier groups as members only, so they are all there.
            let witnessed = |member: &&Member| holds(**member, &times, &groups);
            let count = group.members.iter().filter(witnessed).count();
            groups.push(count >= group.needed);
        }
        match &self.quorum {
            Some((quorum, member)) if !holds(*member, &times, &groups) => {
                let names = |cosigned: bool| {
                    let all = self.witnesses.iter().zip(&times);
                    let some = all.filter(|(_, time)| time.is_some() == cosigned);
                    some.map(|((name, _), _)| name.clone()).collect()
                };
                Err(CheckpointError::Quorum {
                    quorum: quorum.clone(),
                    cosigned: names(true),
                    missing: names(false),
                })
            }
            _ => {
                let all = self.witnesses.iter().zip(&times);
                let one = |((witness, key), time_s): (&(String, WitnessKey), &Option<u64>)| {
                    Some(Cosigned {
                        witness: witness.clone(),
                        key: key.clone(),
                        time_s: (*time_s)?,
                    })
                };
                Ok(all.filter_map(one).collect())
            }
        }
    }

    fn empty() -> Self {
        Self {
            logs: Vec::new(),
            witnesses: Vec::new(),
            groups: Vec::new(),
            quorum: None,
        }
    }
}

fn holds(member: Member, times: &[Option<u64>], groups: &[bool]) -> bool {
    match member {
        Member::Witness(at) => times.get(at).is_some_and(Option::is_some),
        Member::Group(at) => groups.get(at).is_some_and(|holds| *holds),
    }
}

/// A policy while its lines are read.
struct Reader {
    policy: Policy,
    names: HashMap<Vec<u8>, Member>,
    /// Names that are members of a group.
    members: Vec<Vec<u8>>,
    /// The quorum's line, once it was there; `none` is nothing within.
    quorum: Option<Option<(String, Member)>>,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            policy: Policy::empty(),
            names: HashMap::new(),
            members: Vec::new(),
            quorum: None,
        }
    }
}

impl Reader {
    fn line(&mut self, line: &[u8]) -> Result<(), LineError> {
        if line.iter().any(|&b| (b < 0x20 && b != b'\t') || b == 0x7f) {
            return Err(LineError::Control);
        }
        let words = line.split(|b| b" \t".contains(b));
        let words: Vec<&[u8]> = words.filter(|word| !word.is_empty()).collect();
        match words[..] {
            [] => Ok(()),
            [first, ..] if first.starts_with(b"#") => Ok(()),
            [b"log", ref rest @ ..] => self.log(rest),
            [b"witness", ref rest @ ..] => self.witness(rest),
            [b"group", ref rest @ ..] => self.group(rest),
            [b"quorum", ref rest @ ..] => self.quorum(rest),
            _ => Err(LineError::Keyword),
        }
    }

    fn log(&mut self, words: &[&[u8]]) -> Result<(), LineError> {
        let ([key] | [key, _]) = words else {
            return Err(LineError::Form("log VKEY [URL]"));
        };
        let key = utf8(key).and_then(VerifierKey::parse);
        let key = key.map_err(LineError::LogKey)?;
        let logs = &mut self.policy.logs;
        if logs.iter().any(|other| other.public() == key.public()) {
            return Err(LineError::SameKey);
        }
        add(logs, key).map(drop)
    }

    fn witness(&mut self, words: &[&[u8]]) -> Result<(), LineError> {
        let ([name, key] | [name, key, _]) = words else {
            return Err(LineError::Form("witness NAME VKEY [URL]"));
        };
        let key = utf8(key).and_then(WitnessKey::parse);
        let key = key.map_err(LineError::WitnessKey)?;
        let all = &mut self.policy.witnesses;
        if all.iter().any(|(_, other)| other.public() == key.public()) {
            return Err(LineError::SameKey);
        }
        let at = add(all, (shown(name), key))?;
        self.define(name, Member::Witness(at))
    }

    fn group(&mut self, words: &[&[u8]]) -> Result<(), LineError> {
        let [name, needed, members @ ..] = words else {
            return Err(LineError::Form("group NAME any|all|NUMBER MEMBER…"));
        };
        let count = members.len();
        let needed = match *needed {
            b"any" => Some(1),
            b"all" => Some(count),
            number => utf8(number)
                .ok()
                .and_then(parse_decimal)
                .and_then(|n| usize::try_from(n).ok()),
        };
        let needed = needed.filter(|needed| (1..=count).contains(needed));
        let needed = needed.ok_or(LineError::Threshold { members: count })?;
        let mut found = Vec::with_capacity(count);
        for member in members {
            found.push(self.find(member)?);
            if self.members.iter().any(|other| other == member) {
                return Err(LineError::Member {
                    name: shown(member),
                });
            }
            self.members.push(member.to_vec());
        }
        let group = Group {
            needed,
            members: found,
        };
        let at = add(&mut self.policy.groups, group)?;
        self.define(name, Member::Group(at))
    }

    fn quorum(&mut self, words: &[&[u8]]) -> Result<(), LineError> {
        let [name] = words else {
            return Err(LineError::Form("quorum NAME"));
        };
        if self.quorum.is_some() {
            return Err(LineError::SecondQuorum);
        }
        self.quorum = Some(match *name {
            b"none" => None,
            name => Some((shown(name), self.find(name)?)),
        });
        Ok(())
    }

    fn find(&self, name: &[u8]) -> Result<Member, LineError> {
        let undefined = || LineError::Undefined { name: shown(name) };
        self.names.get(name).copied().ok_or_else(undefined)
    }

    fn define(&mut self, name: &[u8], member: Member) -> Result<(), LineError> {
        if name == b"none" || self.names.insert(name.to_vec(), member).is_some() {
            return Err(LineError::Taken { name: shown(name) });
        }
        Ok(())
    }
}

/// Adds one more, within the limit; returns its place.
fn add<T>(list: &mut Vec<T>, item: T) -> Result<usize, LineError> {
    let at = list.len();
    if at == DEFINED_MAX {
        return Err(LineError::TooMany);
    }
    list.push(item);
    Ok(at)
}

fn utf8(word: &[u8]) -> Result<&str, NoteError> {
    std::str::from_utf8(word).map_err(|_| NoteError::MalformedKey)
}

/// A name for people: what is no text, and what a terminal would obey, is escaped.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).escape_debug().to_string()
}
