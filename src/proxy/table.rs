//! A transport for tests: answers from a table, and remembers what was asked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use super::{Boxed, GetError, Limits, Said, Sink, Transport, Url};

type Answer = Result<Vec<u8>, u16>;

#[derive(Clone, Default)]
pub(crate) struct Table {
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Table {
    pub(crate) fn put(&self, url: &str, body: &[u8]) {
        self.answers
            .lock()
            .unwrap()
            .insert(url.to_owned(), Ok(body.to_vec()));
    }

    pub(crate) fn put_status(&self, url: &str, code: u16) {
        self.answers
            .lock()
            .unwrap()
            .insert(url.to_owned(), Err(code));
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Transport for Table {
    fn get<'a>(
        &'a self,
        url: &'a Url,
        limits: Limits,
        sink: &'a mut dyn Sink,
    ) -> Boxed<'a, Result<(), GetError>> {
        Box::pin(async move {
            self.asked.lock().unwrap().push(url.to_string());
            let answer = self.answers.lock().unwrap().get(url.as_str()).cloned();
            match answer.unwrap_or(Err(404)) {
                Ok(body) if body.len() as u64 > limits.bytes_max => Err(GetError::TooLong {
                    bytes_max: limits.bytes_max,
                }),
                Ok(body) => {
                    sink.begin(Some(body.len() as u64))
                        .map_err(GetError::Sink)?;
                    sink.chunk(&body).map_err(GetError::Sink)
                }
                Err(code) => Err(GetError::Status {
                    code,
                    said: Said::default(),
                }),
            }
        })
    }
}
