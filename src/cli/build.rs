//! `hotcell build` and `hotcell plan`: one build on this machine, without a server.

use std::{
    fs::{File, OpenOptions, Permissions},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::json;

use super::{
    Network, Stop, TargetArgs, against::provenance_of, local::Local, lock::Lock, print, progress,
    say,
};
use crate::{
    build::{Built, Engine, Executor, Failure},
    provenance::{self, Builder, Run},
    serve::clock::{Clock as _, SystemClock},
    spec::{BuildKey, GoVersion, PackageQuery, Sum, hex},
    store::durable,
};

/// Where the code comes from and how it is built.
#[derive(Debug, Args)]
struct What {
    /// `module@version/package` or `package@version`
    spec: String,
    #[command(flatten)]
    target: TargetArgs,
    /// Another policy for the cell than the built-in one
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Build {
    /// `module@version/package` or `package@version`
    #[arg(required_unless_present = "locked", conflicts_with = "locked")]
    spec: Option<String>,
    #[command(flatten)]
    target: TargetArgs,
    /// Another policy for the cell than the built-in one
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Build exactly what a lock file says; anything else ends with exit code 3
    #[arg(long, value_name = "FILE", conflicts_with_all = ["target", "go", "stripped"])]
    locked: Option<PathBuf>,
    /// Where the binary goes [default: its own name, here]
    #[arg(short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Start with empty caches and remove them afterwards
    #[arg(long)]
    cold: bool,
    /// One JSON document on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Plan {
    #[command(flatten)]
    what: What,
    /// Where the lock file goes [default: stdout]
    #[arg(short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Build {
    pub(super) fn run(self, network: &Network) -> Result<(), Stop> {
        let locked = self.locked.as_deref().map(Lock::read).transpose()?;
        let question = match &self.spec {
            Some(spec) => Some(Question::parse(spec, &self.target)?),
            None => None,
        };
        let local = Local::start(network, self.policy.as_deref(), self.cold)?;
        local.run(async |engine| {
            let key = match (&locked, &question) {
                (Some((_, key)), _) => key.clone(),
                (None, Some(question)) => question.resolve(&engine).await?,
                (None, None) => return Err(Stop::new(Stop::USAGE, "name what to build")),
            };
            if let Some((lock, _)) = &locked {
                let policy = engine.policy_for(key.go)?;
                lock.check("the policy", &lock.policy_sha256, &policy.sha256)?;
            }
            let path = self
                .output
                .clone()
                .unwrap_or_else(|| PathBuf::from(key.binary_name()));
            let artifact = Artifact::create(&path)?;
            let built = build(&engine, &key, locked.map(|(lock, _)| lock), &artifact.file).await?;
            let statement = statement(&key, &built)?;
            artifact.keep()?;
            // A crash here leaves the binary alone, or beside the statement on the one before it.
            let provenance = provenance_of(&path);
            durable::replace(&provenance, &statement, durable::PUBLIC)
                .map_err(|error| Stop::chain(Stop::FAILED, &error))?;
            self.report(&key, &built, &path, &provenance)
        })
    }

    fn report(
        &self,
        key: &BuildKey,
        built: &Built,
        path: &Path,
        provenance: &Path,
    ) -> Result<(), Stop> {
        for warning in &built.warnings {
            say(format_args!("warning: {warning}"));
        }
        if self.json {
            return print(json(key, built, path, provenance));
        }
        let sum = Sum::of(&built.sha256);
        print(format_args!(
            "{}\t{sum}\tsha256:{}",
            path.display(),
            hex(&built.sha256)
        ))
    }
}

impl Plan {
    pub(super) fn run(self, network: &Network) -> Result<(), Stop> {
        let question = Question::parse(&self.what.spec, &self.what.target)?;
        let local = Local::start(network, self.what.policy.as_deref(), false)?;
        local.run(async |engine| {
            let key = question.resolve(&engine).await?;
            let nowhere = Artifact::temporary()?;
            let built = build(&engine, &key, None, &nowhere).await?;
            let text = Lock::of(&key, &built).text();
            match &self.output {
                Some(path) => durable::replace(path, text.as_bytes(), durable::PUBLIC)
                    .map_err(|error| Stop::chain(Stop::FAILED, &error)),
                None => print(text.trim_end()),
            }
        })
    }
}

/// What was typed, parsed.
struct Question {
    package: PackageQuery,
    target: TargetArgs,
}

impl Question {
    fn parse(spec: &str, target: &TargetArgs) -> Result<Self, Stop> {
        let package = PackageQuery::parse(spec)?;
        target.target()?;
        target.go()?;
        Ok(Self {
            package,
            target: target.clone(),
        })
    }

    /// Finds out what moving names mean today, and says so.
    async fn resolve(&self, engine: &Engine) -> Result<BuildKey, Stop> {
        let go: GoVersion = engine.resolve_go(self.target.go()?).await?;
        let found = engine.resolve(self.package.clone()).await?;
        let key = BuildKey {
            module: found.module,
            dir: found.dir,
            target: self.target.target()?,
            go,
            variant: self.target.variant(),
        };
        say(format_args!("{key}"));
        Ok(key)
    }
}

/// Builds with progress on stderr, and checks the result against the lock, if there is one.
pub(super) async fn build(
    engine: &Engine,
    key: &BuildKey,
    lock: Option<Lock>,
    artifact: &File,
) -> Result<Built, Stop> {
    let (sender, shown) = progress::show(format!("{} {}", key.name(), key.target_text()));
    let modules = lock.as_ref().map(|lock| lock.modules.clone());
    let sdk = match &lock {
        Some(lock) => {
            let h1 = engine.sdk(key.go, &sender).await?;
            lock.check("the SDK", &lock.sdk_h1, &h1)
        }
        None => Ok(()),
    };
    let result: Result<Built, Failure> = match sdk {
        Ok(()) => engine.run(key, modules, artifact, &sender).await,
        Err(stop) => return Err(stop),
    };
    drop(sender);
    let _ended = shown.await;
    let built = result?;
    if let Some(lock) = lock {
        let locked = |module| lock.modules.contains(module);
        if let Some(other) = built.modules.iter().find(|module| !locked(module)) {
            let text = format!("{}@{} is not in the lock file", other.path, other.version);
            return Err(Stop::new(Stop::WRONG, text));
        }
    }
    Ok(built)
}

/// The unsigned in-toto statement on a build of this machine.
fn statement(key: &BuildKey, built: &Built) -> Result<Vec<u8>, Stop> {
    let run = Run {
        builder: Builder::Local,
        finished_ms: SystemClock.now_ms(),
    };
    provenance::statement(key, built, run, &[]).map_err(|error| Stop::chain(Stop::FAILED, &error))
}

fn json(key: &BuildKey, built: &Built, path: &Path, provenance: &Path) -> String {
    let timings: serde_json::Map<_, _> = built
        .timings_ms
        .iter()
        .map(|(phase, ms)| (phase.name().to_owned(), json!(ms)))
        .collect();
    let modules: Vec<_> = built
        .modules
        .iter()
        .map(
            |m| json!({"path": m.path, "version": m.version, "h1": m.h1, "go_mod_h1": m.go_mod_h1}),
        )
        .collect();
    let mut document = json!({
        "spec": format!("{}{}", key.module, match key.dir.as_str() {
            "" => String::new(),
            dir => format!("/{dir}"),
        }),
        "sum": Sum::of(&built.sha256).to_string(),
        "sha256": hex(&built.sha256),
        "size": built.size,
        "path": path,
        "provenance": provenance,
        "sdk_h1": built.sdk_h1,
        "modules": modules,
        "cell": built.cell,
        "timings_ms": timings,
        "warnings": built.warnings,
    });
    key.tell(&mut document);
    document.to_string()
}

/// The binary while it is written: it appears under its name whole, or not at all.
pub(super) struct Artifact {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    kept: bool,
}

impl Artifact {
    fn create(path: &Path) -> Result<Self, Stop> {
        let wrong = |error: &dyn std::fmt::Display| {
            Stop::new(
                Stop::USAGE,
                format!("cannot write `{}`: {error}", path.display()),
            )
        };
        if path.is_dir() {
            return Err(wrong(&"it is a folder").hint("name a file with -o"));
        }
        let name = path.file_name().ok_or_else(|| wrong(&"it names no file"))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.partial", std::process::id()));
        let temporary = path.with_file_name(hidden);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(|error| wrong(&error))?;
        Ok(Self {
            file,
            temporary,
            path: path.to_owned(),
            kept: false,
        })
    }

    /// A file without a name, for bytes that nobody keeps.
    pub(super) fn temporary() -> Result<File, Stop> {
        let path = std::env::temp_dir().join(format!(".hotcell-plan-{}", std::process::id()));
        let artifact = Self::create(&path)?;
        artifact
            .file
            .try_clone()
            .map_err(|error| Stop::chain(Stop::FAILED, &error))
    }

    /// Makes the binary durable, executable, and visible.
    fn keep(mut self) -> Result<(), Stop> {
        let failed = |error: std::io::Error| Stop::chain(Stop::FAILED, &error);
        self.file
            .set_permissions(Permissions::from_mode(0o755))
            .map_err(failed)?;
        self.file.sync_all().map_err(failed)?;
        std::fs::rename(&self.temporary, &self.path).map_err(failed)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Artifact {
    fn drop(&mut self) {
        if !self.kept {
            let _gone_already = std::fs::remove_file(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_stands_beside_its_binary_under_the_binarys_whole_name() {
        for (binary, statement) in [
            ("age", "age.provenance.json"),
            ("bin/tool.exe", "bin/tool.exe.provenance.json"),
            ("../a.b/c", "../a.b/c.provenance.json"),
        ] {
            assert_eq!(provenance_of(Path::new(binary)), PathBuf::from(statement));
        }
    }
}
