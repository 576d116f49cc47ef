//! Checks of the cache that go on beside the questions, and what they tell.

use std::{io, sync::Arc};

use super::{
    asker::Asker,
    check::{self, Round},
    error::FetchError,
    role::Role,
    wire::Answer,
};

/// Most sentences about changed files in one answer.
const PUT_AWAY_MAX: usize = 100;

impl Role {
    /// Reads every file now.
    pub(super) async fn verify(&self) -> Result<Answer, FetchError> {
        let cache = Arc::clone(&self.modules.cache);
        let read = tokio::task::spawn_blocking(move || cache.check_all());
        let Round { check, put_away } = read.await??;
        Ok(Answer::Verified {
            check,
            put_away: put_away.into_iter().take(PUT_AWAY_MAX).collect(),
        })
    }

    /// Tells what was put away, as soon as it was.
    pub(super) async fn tell(self: Arc<Self>) {
        let asker = Asker {
            control: Arc::clone(&self.control),
            id: 0,
        };
        loop {
            for sentence in self.modules.cache.take_told() {
                tracing::error!("{sentence}");
                asker.say(Answer::PutAway { sentence }, None).await;
            }
            self.modules.cache.bell.notified().await;
        }
    }

    /// Reads a part of the cache every minute.
    pub(super) async fn check(self: Arc<Self>) {
        let mut cursor = check::random_cursor(self.modules.cache.root());
        loop {
            tokio::time::sleep(check::ROUND_EVERY).await;
            let (cache, from) = (Arc::clone(&self.modules.cache), cursor.clone());
            let read = tokio::task::spawn_blocking(move || {
                let mut cursor = from;
                cache.check_part(&mut cursor).map(|_| cursor)
            });
            match read.await.map_err(io::Error::other) {
                Ok(Ok(next)) => cursor = next,
                Ok(Err(error)) | Err(error) => {
                    tracing::warn!(%error, "cannot check the module cache");
                }
            }
        }
    }
}
