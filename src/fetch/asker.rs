//! Answers to the asker, under the number of its question.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
};

use hotcell_sandbox::channel::ChannelError;

use super::{
    error::FetchError,
    wire::{Answer, Response, Trouble, TroubleKind},
};
use crate::channel::AsyncChannel;

/// Says things to the asker under one request's number.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) control: Arc<AsyncChannel>,
    pub(super) id: u64,
}

impl Asker {
    /// Sends an answer. One that cannot be sent is traced: the asker is gone, or soon will be.
    pub(super) async fn say(&self, answer: Answer, descriptor: Option<&OwnedFd>) {
        let descriptors: Vec<BorrowedFd<'_>> = descriptor.iter().map(|fd| fd.as_fd()).collect();
        let response = Response {
            id: self.id,
            answer,
        };
        let result = self.control.send(&response, &descriptors).await;
        if matches!(result, Err(ChannelError::TooLong)) {
            let text = "the answer is too long for a message".to_owned();
            let trouble = Trouble {
                kind: TroubleKind::Internal,
                text,
            };
            let response = Response {
                id: self.id,
                answer: Answer::Trouble(trouble),
            };
            let _gone = self.control.send(&response, &[]).await;
        } else if let Err(error) = result {
            tracing::debug!(%error, "cannot answer the asker");
        }
    }

    pub(super) async fn trouble(&self, error: &FetchError) {
        let trouble = error.trouble();
        match trouble.kind {
            TroubleKind::Verify => tracing::error!("{}", trouble.text),
            TroubleKind::Internal => tracing::warn!("{}", trouble.text),
            _ => tracing::info!("{}", trouble.text),
        }
        self.say(Answer::Trouble(trouble), None).await;
    }
}
