//! `hotcell toolchain`: Go SDKs in the store of this person.

use clap::{Args, Subcommand};

use super::{Network, Stop, local::Local, print, progress};
use crate::{
    build::{Engine, Executor},
    fetch::wire::{Answer, Ask},
    spec::{GoQuery, GoVersion},
};

#[derive(Debug, Subcommand)]
pub(super) enum Toolchain {
    /// List what is in the store, or with --all what can be fetched
    List {
        /// All releases that the module proxy has
        #[arg(long)]
        all: bool,
    },
    /// Fetch, verify and adopt a release
    Fetch(Which),
    /// Delete a release and the caches that belong to it
    Remove(Which),
}

#[derive(Debug, Args)]
pub(super) struct Which {
    /// go1.26.8, go1.26.latest or latest
    release: String,
}

impl Toolchain {
    pub(super) fn run(self, network: &Network) -> Result<(), Stop> {
        let query = match &self {
            Self::Fetch(which) | Self::Remove(which) => Some(GoQuery::parse(&which.release)?),
            Self::List { .. } => None,
        };
        let local = Local::start(network, None, false)?;
        local.run(async |engine| {
            let go = match query {
                Some(query) => Some(engine.resolve_go(query).await?),
                None => None,
            };
            match (self, go) {
                (Self::Fetch(_), Some(go)) => fetch(&engine, go).await,
                (Self::Remove(_), Some(go)) => remove(&engine, go).await,
                (Self::List { all: true }, _) => list_all(&engine).await,
                _ => list(&engine).await,
            }
        })
    }
}

async fn fetch(engine: &Engine, go: GoVersion) -> Result<(), Stop> {
    let (sender, shown) = progress::show(go.to_string());
    let result = engine.sdk(go, &sender).await;
    drop(sender);
    let _ended = shown.await;
    print(format_args!("{go}\t{}", result?))
}

async fn list(engine: &Engine) -> Result<(), Stop> {
    for tree in trees(engine).await? {
        print(format_args!(
            "{}\t{}\t{} MiB",
            tree.title,
            tree.digest,
            tree.bytes >> 20
        ))?;
    }
    Ok(())
}

async fn list_all(engine: &Engine) -> Result<(), Stop> {
    let answer = engine.fetch().ask_once(Ask::GoVersions).await;
    match answer.map_err(crate::build::ending::of_trouble)? {
        Answer::GoVersions { versions } => versions.iter().try_for_each(print),
        _ => Err(Stop::new(
            Stop::FAILED,
            "the fetcher answered something else",
        )),
    }
}

async fn remove(engine: &Engine, go: GoVersion) -> Result<(), Stop> {
    let name = go.to_string();
    let mut removed = 0;
    for tree in trees(engine).await? {
        if tree.title == name || tree.title.starts_with(&format!("{name} ")) {
            let result = engine.remove_tree(&tree.name).await;
            result.map_err(|error| Stop::chain(Stop::FAILED, &error))?;
            removed += 1;
        }
    }
    match removed {
        0 => Err(Stop::new(
            Stop::FAILED,
            format!("{name} is not in the store"),
        )),
        _ => Ok(()),
    }
}

async fn trees(engine: &Engine) -> Result<Vec<hotcell_sandbox::wire::Tree>, Stop> {
    engine
        .supervise()
        .trees()
        .await
        .map_err(|error| Stop::chain(Stop::FAILED, &error))
}
