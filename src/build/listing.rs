//! The commands of a module, listed by the go command in a cell.
//!
//! Called by `serve` for the page of a module. What comes out is the module's own word about
//! itself: it is parsed into names that a build would take, and is nothing but shown.

use hotcell_sandbox::wire::{Ending, Job};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Executor as _, Failure, engine::Engine, probe::PROGRESS_MAX};
use crate::{
    fetch::wire::Member,
    output::Output,
    spec::{GoQuery, ModuleVersion, PackageDir, Target},
};

/// Most commands of one module that are kept; large ones have some hundred.
const COMMANDS_MAX: usize = 1_000;
/// Most characters of a sentence that are kept.
const DOC_CHARS_MAX: usize = 200;

/// A main package of a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Directory within the module; empty for its root.
    pub dir: String,
    /// First sentence of its documentation; empty when it has none.
    pub doc: String,
}

impl Engine {
    /// Lists the commands of a module with the newest Go release, for this machine's target.
    ///
    /// # Errors
    /// Why they could not be listed.
    pub async fn list(&self, module: &ModuleVersion) -> Result<Vec<Command>, Failure> {
        let (progress, _nobody) = mpsc::channel(PROGRESS_MAX);
        let go = self.resolve_go(GoQuery::Latest).await?;
        let h1 = self.sdk(go, &progress).await?;
        self.exists(module).await?;
        let (path, version) = (module.path.to_string(), module.version.to_string());
        let root = Member {
            path: path.clone(),
            version: version.clone(),
        };
        let job = Job::List {
            module: path,
            version,
        };
        let work = self.work(Some(root), None, None, &progress);
        let outcome = self.cell(work, go, &h1, Target::HOST, job, false).await?;
        let failed = outcome.ending != Ending::Success || has_fault(&outcome.output);
        match failed {
            false => Ok(parse(module, &outcome.output)),
            true => Err(outcome.into_failure(&self.policy_for(go)?.name)),
        }
    }
}

/// Whether the go command could not look at the module at all; one broken package is no fault.
fn has_fault(output: &Output) -> bool {
    let text = output.terminal();
    text.lines().any(|line| line.starts_with("fault\t"))
}

/// Reads the lines that the supervisor has ordered; whatever else was printed is no command.
fn parse(module: &ModuleVersion, output: &Output) -> Vec<Command> {
    let path = module.path.as_str();
    let mut commands: Vec<_> = output
        .terminal()
        .lines()
        .filter_map(|line| {
            let fields: Vec<_> = line.split('\t').collect();
            let ["command", of, package, doc, "end"] = fields[..] else {
                return None;
            };
            let below = package.strip_prefix(path)?;
            let dir = match below.strip_prefix('/') {
                Some(dir) if !dir.is_empty() => dir,
                None if below.is_empty() => "",
                _ => return None,
            };
            let dir = PackageDir::parse(dir).ok().filter(|_| of == path)?;
            Some(Command {
                dir: dir.to_string(),
                doc: doc.trim().chars().take(DOC_CHARS_MAX).collect(),
            })
        })
        .collect();
    commands.sort_by(|one, other| one.dir.cmp(&other.dir));
    commands.dedup_by(|one, other| one.dir == other.dir);
    commands.truncate(COMMANDS_MAX);
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        let module = ModuleVersion::parse("example.org/m", "v1.0.0").unwrap();
        let commands = parse(&module, &Output::from(text.as_bytes().to_vec()));
        let pair = |command: Command| (command.dir, command.doc);
        commands.into_iter().map(pair).collect()
    }

    #[test]
    fn commands_are_those_of_the_module_and_nothing_else_that_was_printed() {
        let text = "go: downloading example.org/m v1.0.0\n\
            command\texample.org/m\texample.org/m/cmd/b\tB does it.\tend\n\
            command\texample.org/m\texample.org/m\t\tend\n\
            command\texample.org/m\texample.org/m/cmd/b\tAgain.\tend\n\
            command\texample.org/m/sub\texample.org/m/sub\tAnother module.\tend\n\
            command\texample.org/m\texample.org/more\tNot below.\tend\n\
            command\texample.org/m\texample.org/m/../x\tNo folder.\tend\n\
            command\texample.org/m\texample.org/m/\tNo folder.\tend\n\
            command\texample.org/m\texample.org/m/cut\tcut in two\n\
            command\texample.org/m\texample.org/m/a\tescapes \u{1b}[2J\u{202e}\tend\n";
        assert!(!has_fault(&Output::from(text.as_bytes().to_vec())));
        assert!(has_fault(&Output::from(b"go: x\nfault\tno\n".to_vec())));
        let hidden = Output::from("escapes \u{1b}[2J\u{202e}".as_bytes().to_vec()).terminal();
        assert_eq!(
            parsed(text),
            [
                (String::new(), String::new()),
                ("a".to_owned(), hidden),
                ("cmd/b".to_owned(), "B does it.".to_owned()),
            ]
        );
    }

    #[test]
    fn a_long_list_and_a_long_sentence_are_cut() {
        let doc = "x".repeat(3_000);
        let line = |n| format!("command\texample.org/m\texample.org/m/c{n}\t{doc}\tend\n");
        let all = parsed(&(0..2_000).map(line).collect::<String>());
        assert_eq!(all.len(), COMMANDS_MAX);
        assert!(all.iter().all(|(_, doc)| doc.len() == DOC_CHARS_MAX));
    }
}
