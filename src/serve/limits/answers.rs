//! What is answered when a limit or a rule is in the way.
//!
//! Called wherever something new begins. Whoever can come back is told when.

use axum::http::StatusCode;

use super::{
    Denied, Limited,
    budget::OverBudget,
    rules::{Bar, Barred},
};
use crate::serve::{answer::Refusal, queue::QueueError};

impl From<Limited> for Refusal {
    fn from(limited: Limited) -> Self {
        let after = limited.after_s;
        let remedy = format!("come back in {after} s; what is built already has no limit");
        let (status, sentence) = (StatusCode::TOO_MANY_REQUESTS, limited.to_string());
        Self::new(status, "limited", &sentence, &remedy).later(after)
    }
}

impl From<Barred> for Refusal {
    fn from(barred: Barred) -> Self {
        let forbidden = StatusCode::FORBIDDEN;
        let (status, code, remedy) = match &barred.why {
            Bar::Module(_) => (
                forbidden,
                "module_denied",
                "build it yourself with `hotcell build`",
            ),
            Bar::Go { .. } => (
                forbidden,
                "go_out_of_bounds",
                "ask for a release within these bounds",
            ),
            Bar::Client => (
                forbidden,
                "bad_client",
                "what is built already is open to you",
            ),
            Bar::Withdrawn(one) => (
                one.status.code(),
                "withdrawn",
                "records stay in the log; /-/withdrawn has the list",
            ),
        };
        let remedy = match &barred.contact {
            Some(contact) => format!("{remedy}; the operator: {contact}"),
            None => remedy.to_owned(),
        };
        Self::new(status, code, &barred.to_string(), &remedy)
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Limited(limited) => limited.into(),
            Denied::Barred(barred) => barred.into(),
        }
    }
}

impl From<OverBudget> for Refusal {
    fn from(over: OverBudget) -> Self {
        let (status, code) = match over.module {
            Some(_) => (StatusCode::TOO_MANY_REQUESTS, "limited"),
            None => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
        };
        let minutes = over.after_s.div_ceil(60);
        let remedy = format!("come back in {minutes} min; what is built already has no limit");
        Self::new(status, code, &over.to_string(), &remedy).later(over.after_s)
    }
}

impl From<QueueError> for Refusal {
    fn from(error: QueueError) -> Self {
        let busy = |code: &str| {
            let mut busy = Self::busy(&error.to_string());
            busy.code = code.to_owned();
            busy
        };
        match error {
            QueueError::Full(_) => Self::busy("the queue is full"),
            QueueError::Stopping => Self::busy("the service is restarting"),
            QueueError::Fenced(_) => busy("log_fenced"),
            QueueError::NoRoom => busy("no_room"),
            QueueError::Limited(limited) => limited.into(),
            QueueError::Barred(barred) => barred.into(),
            QueueError::OverBudget(over) => over.into(),
            QueueError::Catalogue(_) | QueueError::Artifact(_) => Self::internal(&error),
        }
    }
}
