//! The engine behind the queue's seam: names are resolved by the fetcher, builds by the engine.

use std::{fs::File, net::IpAddr};

use hotcell_sandbox::wire::Tree;
use tokio::sync::mpsc;

use super::{
    BoxFuture, Built, Command, Executor, Failure, Progress, Resolved, Versions, cell, ending,
    engine::{Engine, unexpected},
};
use crate::{
    fetch::wire::{Answer, Ask, LICENCES_MAX, ModuleHash, ModuleLicences},
    spec::{BuildKey, GoQuery, GoVersion, ModulePath, ModuleVersion, PackageQuery},
};

impl Executor for Engine {
    fn resolve(&self, ask: PackageQuery) -> BoxFuture<'_, Result<Resolved, Failure>> {
        Box::pin(async move {
            let question = Ask::Resolve {
                module: ask.module.as_ref().map(ToString::to_string),
                package: ask.package.clone(),
                query: ask.query.to_string(),
            };
            match self
                .fetch()
                .ask_once(question)
                .await
                .map_err(ending::of_trouble)?
            {
                Answer::Resolved { member, warnings } => {
                    let module = ModuleVersion::parse(&member.path, &member.version)
                        .map_err(|error| cell::internal(&error))?;
                    let dir = ask
                        .dir_in(&module.path)
                        .ok_or_else(|| cell::internal(&"the fetcher resolved to another module"))?;
                    Ok(Resolved {
                        module,
                        dir,
                        warnings,
                    })
                }
                other => Err(unexpected(&other)),
            }
        })
    }

    fn resolve_go(&self, ask: GoQuery) -> BoxFuture<'_, Result<GoVersion, Failure>> {
        Box::pin(async move {
            if let GoQuery::Exact(go) = ask {
                return Ok(go);
            }
            let question = Ask::LatestGo {
                query: ask.to_string(),
            };
            match self
                .fetch()
                .ask_once(question)
                .await
                .map_err(ending::of_trouble)?
            {
                Answer::Go { go } => GoVersion::parse(&go).map_err(|e| cell::internal(&e)),
                other => Err(unexpected(&other)),
            }
        })
    }

    fn versions(&self, module: ModulePath) -> BoxFuture<'_, Result<Versions, Failure>> {
        Box::pin(async move {
            let question = Ask::Versions {
                module: module.to_string(),
            };
            match self
                .fetch()
                .ask_once(question)
                .await
                .map_err(ending::of_trouble)?
            {
                Answer::Versions { versions, warnings } => Ok(Versions { versions, warnings }),
                other => Err(unexpected(&other)),
            }
        })
    }

    fn commands(&self, module: ModuleVersion) -> BoxFuture<'_, Result<Vec<Command>, Failure>> {
        Box::pin(async move { self.list(&module).await })
    }

    fn host_name(&self, address: IpAddr) -> BoxFuture<'_, Result<Option<String>, Failure>> {
        Box::pin(async move {
            let asked = self.fetch().ask_once(Ask::HostName { address }).await;
            match asked.map_err(ending::of_trouble)? {
                Answer::HostName { name } => Ok(name),
                other => Err(unexpected(&other)),
            }
        })
    }

    fn alarms(&self) -> Vec<String> {
        let mut all = self.supervise().alarms();
        all.append(&mut self.fetch().alarms());
        all
    }

    fn trees(&self) -> BoxFuture<'_, Vec<(String, u64)>> {
        Box::pin(async move {
            let trees = self.supervise().trees().await.unwrap_or_default();
            let told = |tree: Tree| (format!("{} ({})", tree.title, tree.name), tree.bytes);
            trees.into_iter().map(told).collect()
        })
    }

    fn licences(&self, modules: Vec<ModuleHash>) -> BoxFuture<'_, Vec<ModuleLicences>> {
        Box::pin(async move {
            let mut all = Vec::new();
            for part in modules.chunks(LICENCES_MAX) {
                let modules = part.to_vec();
                match self.fetch().ask_once(Ask::Licences { modules }).await {
                    Ok(Answer::Licences { modules }) => all.extend(modules),
                    // It need not be known; the next build of these modules asks again.
                    Ok(_) | Err(_) => break,
                }
            }
            all
        })
    }

    fn build(
        &self,
        key: BuildKey,
        artifact: File,
        progress: mpsc::Sender<Progress>,
    ) -> BoxFuture<'_, Result<Built, Failure>> {
        Box::pin(async move { self.run(&key, None, &artifact, &progress).await })
    }
}
