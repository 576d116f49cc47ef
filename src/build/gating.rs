//! What the gate says of a binary once its cell is dead, from the asker's side.

use std::time::{Duration, Instant};

use hotcell_sandbox::wire::Ending;

use super::{
    Code, Failure, FailureClass,
    cell::{AFTER_TIMEOUT, internal, receive},
    ending,
};
use crate::{
    channel::AsyncChannel,
    relay::wire::{Event, Order},
};

/// So long a build waits for the sizes of its packages; those of the largest take a second.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(10);

/// Code of a binary that is not what its cell was given.
pub(super) const GATE_ALARM: &str = "build_info";

/// What came through the gate.
#[derive(Debug)]
pub(super) struct Gated {
    pub(super) sha256: [u8; 32],
    pub(super) size: u64,
    /// What code it has, when it says so.
    pub(super) code: Option<Code>,
}

/// Has the gate pass the artifact, when there is something to pass; says how long that took.
pub(super) async fn pass(
    talk: Option<&AsyncChannel>,
    ending: &Ending,
    order: Option<Order>,
) -> Result<(Option<Gated>, Duration), Failure> {
    let (Ending::Success, Some(order), Some(talk)) = (ending, order, talk) else {
        return Ok((None, Duration::ZERO));
    };
    let begin = Instant::now();
    let gated = tokio::time::timeout(AFTER_TIMEOUT, gated(talk, &order)).await;
    let mut gated = gated
        .unwrap_or_else(|_| Err(internal(&"the relay did not answer after the cell's end")))?;
    let took = begin.elapsed();
    let code = tokio::time::timeout(MEASURE_TIMEOUT, code(talk)).await;
    gated.code = code.ok().flatten();
    Ok((Some(gated), took))
}

async fn gated(talk: &AsyncChannel, order: &Order) -> Result<Gated, Failure> {
    talk.send(order, &[]).await.map_err(|e| internal(&e))?;
    loop {
        match receive(Some(talk)).await {
            Some(Event::Gated { sha256, size }) => {
                let sha256 = crate::spec::unhex(&sha256);
                let sha256 = sha256.ok_or_else(|| internal(&"the gate sent no hash"))?;
                let code = None;
                return Ok(Gated { sha256, size, code });
            }
            Some(Event::GateRefused { why, alarm }) => return Err(refused(why, alarm)),
            Some(_) => {}
            None => return Err(internal(&"the relay ended in the gate")),
        }
    }
}

/// What the relay says of the code of a binary that is through. Nothing that goes wrong here is the
/// build's fault.
async fn code(talk: &AsyncChannel) -> Option<Code> {
    let mut all = Vec::new();
    while all.len() <= Code::PACKAGES_MAX {
        match receive(Some(talk)).await? {
            Event::Packages { packages } => all.extend(packages),
            Event::Measured { other } => return Code::new(all, other?),
            _ => {}
        }
    }
    None
}

fn refused(why: String, alarm: bool) -> Failure {
    let (code, class, remedy) = if alarm {
        (
            GATE_ALARM,
            FailureClass::Verify,
            "keep the module's zip: somebody must look at this",
        )
    } else {
        (
            "output_refused",
            FailureClass::CannotBuild,
            "a build must leave exactly one binary",
        )
    };
    ending::failure(code, class, why, remedy)
}
