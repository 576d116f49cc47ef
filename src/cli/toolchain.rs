//! `hotcell toolchain`: Go SDKs in the store of this person.

use clap::{Args, Subcommand};
use hotcell_sandbox::wire::Tree;

use super::{Network, Stop, check, local::Local, print, progress};
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
        /// One JSON document on stdout
        #[arg(long, conflicts_with = "all")]
        json: bool,
    },
    /// Fetch, verify and adopt a release
    Fetch(Which),
    /// Read SDKs, frozen caches and module files again, through the page cache and past it
    Verify {
        /// go1.26.8: this release and what it made only
        release: Option<String>,
        /// One JSON document on stdout
        #[arg(long)]
        json: bool,
    },
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
            Self::Verify { release, .. } => release.as_deref().map(GoQuery::parse).transpose()?,
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
                (Self::Verify { json, .. }, go) => check::run(&engine, go, json).await,
                (Self::List { all: true, .. }, _) => list_all(&engine).await,
                (Self::List { json, .. }, _) => list(&engine, json).await,
                (Self::Fetch(_) | Self::Remove(_), None) => Ok(()), // clap asks for a release
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

async fn list(engine: &Engine, as_json: bool) -> Result<(), Stop> {
    let trees = trees(engine).await?;
    if as_json {
        return print(serde_json::json!({ "trees": trees }));
    }
    for tree in trees {
        let Tree {
            title,
            digest,
            bytes,
            ..
        } = &tree;
        match &tree.put_away {
            None => print(format_args!("{title}\t{digest}\t{} MiB", bytes >> 20))?,
            Some(why) => print(format_args!("{title}\t{digest}\tPUT AWAY: {why}"))?,
        }
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

pub(super) async fn trees(engine: &Engine) -> Result<Vec<Tree>, Stop> {
    engine
        .supervise()
        .trees()
        .await
        .map_err(|error| Stop::chain(Stop::FAILED, &error))
}
