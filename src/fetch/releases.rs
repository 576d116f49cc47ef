//! Go releases that can be had: the module proxy lists them.

use std::time::{Duration, Instant};

use super::{error::FetchError, role::Role, wire::Answer};
use crate::{
    spec::{GoQuery, GoVersion, Target},
    toolchain,
};

/// How long a list is believed; a new release is no emergency.
const BELIEVED: Duration = Duration::from_secs(60);

/// The last list, and when it was read.
pub(super) type Known = tokio::sync::Mutex<Option<(Instant, Vec<GoVersion>)>>;

impl Role {
    /// What a moving name of a release means today.
    pub(super) async fn latest_go(&self, query: &str) -> Result<Answer, FetchError> {
        let releases = self.list_releases().await?;
        let go = toolchain::choose(GoQuery::parse(query)?, &releases);
        let none = || FetchError::NotFound(format!("there is no Go release `{query}`"));
        Ok(Answer::Go {
            go: go.ok_or_else(none)?.to_string(),
        })
    }

    /// All of them.
    pub(super) async fn go_versions(&self) -> Result<Answer, FetchError> {
        let releases = self.list_releases().await?;
        let versions = releases.iter().map(ToString::to_string).collect();
        Ok(Answer::GoVersions { versions })
    }

    /// Those for this host, newest first.
    async fn list_releases(&self) -> Result<Vec<GoVersion>, FetchError> {
        let mut known = self.releases.lock().await;
        if let Some((since, releases)) = &*known
            && since.elapsed() < BELIEVED
        {
            return Ok(releases.clone());
        }
        let list = self.modules.proxy.list(&toolchain::module_path()?).await?;
        let releases = toolchain::releases(&list, Target::HOST);
        *known = Some((Instant::now(), releases.clone()));
        Ok(releases)
    }
}
