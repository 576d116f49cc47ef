//! One cell from request to result: session with the fetcher, relay, clocks, gate.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hotcell_sandbox::{
    channel::Channel,
    wire::{CancelReason, CellId, CellRequest, Ending, Reply, Report},
};
use tokio::sync::mpsc;

use super::{
    Failure, FailureClass, Progress,
    ending::{self, Failed},
    fetching::{Asked, Fetch},
    gating::{self, Gated},
    supervise::{CellHandle, Supervise, SuperviseError},
};
use crate::{
    channel::AsyncChannel,
    fetch::wire::{Answer, Member, ModuleHash, Trouble},
    output::Output,
    relay::wire::{Event, Order},
};

/// After a cell's end its relay has so long to hand over what is left and to pass the gate.
pub(super) const AFTER_TIMEOUT: Duration = Duration::from_secs(120);

/// Limits that the asker watches over; the supervisor has its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    /// Longest time without output and without a request.
    pub(super) silence: Duration,
    /// Most bytes that the program may print.
    pub(super) output_bytes_max: usize,
    /// Whether a request outside the grammar ends the cell.
    pub(super) strict: bool,
}

/// What one cell is for.
pub(super) struct Work<'a> {
    /// Main module of the session.
    pub(super) root: Option<Member>,
    /// Serve exactly these.
    pub(super) locked: Option<Vec<ModuleHash>>,
    /// What the gate must find, if anything is to come out.
    pub(super) gate: Option<Order>,
    /// Receives the artifact.
    pub(super) artifact: &'a File,
    /// A program in the place of the go command.
    pub(super) program: Option<&'a OwnedFd>,
    /// Where progress goes.
    pub(super) progress: &'a mpsc::Sender<Progress>,
}

/// How a cell went, whatever its ending.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) ending: Ending,
    pub(super) report: Report,
    pub(super) output: Output,
    pub(super) refused: Option<String>,
    pub(super) served: Vec<ModuleHash>,
    pub(super) missing: Vec<String>,
    pub(super) trouble: Option<Trouble>,
    /// The artifact, when the gate was asked for and let it through.
    pub(super) gated: Option<Gated>,
    /// From the start to the end of the program.
    pub(super) run: Duration,
    /// What the gate took.
    pub(super) gate: Duration,
    clocks: Clocks,
    /// What the set-up took, as the supervisor says.
    pub(super) setup_us: u64,
}

/// Runs one cell to its end.
///
/// # Errors
/// When the cell could not be asked for, or the gate refused.
pub(super) async fn run(
    supervise: &Arc<Supervise>,
    fetch: &Arc<Fetch>,
    clocks: Clocks,
    work: Work<'_>,
    make: impl FnOnce(CellId) -> CellRequest,
) -> Result<Outcome, Failure> {
    let (session, fetch_end) = Channel::pair().map_err(|e| internal(&e))?;
    let (talk, relay_end) = Channel::pair().map_err(|e| internal(&e))?;
    let served = fetch.open(work.root.clone(), work.locked.as_deref(), fetch_end.as_fd());
    let mut served = served.await.map_err(ending::of_trouble)?;
    drop(fetch_end);
    let mut descriptors = vec![session.as_fd(), relay_end.as_fd(), work.artifact.as_fd()];
    descriptors.extend(work.program.map(AsFd::as_fd));
    let handle = supervise
        .cell(make, &descriptors)
        .await
        .map_err(|e| supervisor(&e))?;
    // Our copies go: the relay holds the only ones, so that its end is seen on both sockets.
    drop((session, relay_end));
    let talk = AsyncChannel::new(talk).map_err(|e| internal(&e))?;
    let mut watch = Watch {
        handle,
        talk: Some(talk),
        clocks,
        progress: work.progress,
        output: Output::default(),
        output_over: false,
        output_too_long: false,
        refused: None,
        started: Instant::now(),
        setup_us: 0,
    };
    let (ending, report) = watch.until_end(&mut served).await?;
    let run = watch.started.elapsed();
    let ending = watch.rest_of_output(ending).await?;
    let (gated, gate) = gating::pass(watch.talk.as_ref(), &ending, work.gate).await?;
    watch.talk = None; // the relay ends, and with it the session
    let (modules, missing, trouble) = closed(&mut served, work.progress).await?;
    Ok(Outcome {
        ending,
        report,
        output: watch.output,
        refused: watch.refused,
        served: modules,
        missing,
        trouble,
        gated,
        run,
        gate,
        clocks,
        setup_us: watch.setup_us,
    })
}

/// A cell that is being watched.
struct Watch<'a> {
    handle: CellHandle,
    talk: Option<AsyncChannel>,
    clocks: Clocks,
    progress: &'a mpsc::Sender<Progress>,
    output: Output,
    output_over: bool,
    output_too_long: bool,
    refused: Option<String>,
    started: Instant,
    setup_us: u64,
}

impl Watch<'_> {
    /// Watches replies, events and the silence clock until every process of the cell is dead.
    async fn until_end(&mut self, served: &mut Asked) -> Result<(Ending, Report), Failure> {
        let mut silence = tokio::time::Instant::now() + self.clocks.silence;
        loop {
            tokio::select! {
                reply = self.handle.next() => match reply.map_err(|e| supervisor(&e))? {
                    Reply::Ended { ending, report, .. } => return Ok((ending, *report)),
                    Reply::Refused { why, .. } => {
                        return Err(supervisor(&SuperviseError::Refused(why)));
                    }
                    Reply::Started { setup_us, .. } => {
                        self.started = Instant::now();
                        self.setup_us = setup_us;
                    }
                    _ => {}
                },
                event = receive(self.talk.as_ref()) => {
                    silence = tokio::time::Instant::now() + self.clocks.silence;
                    self.take(event);
                }
                answer = served.next() => {
                    if let Answer::Served { module } = answer.map_err(ending::of_trouble)?.answer {
                        let _full = self.progress.try_send(Progress::Module { module });
                    }
                }
                () = tokio::time::sleep_until(silence) => {
                    self.handle.cancel(CancelReason::Silence);
                    silence += self.clocks.silence;
                }
            }
        }
    }

    /// Takes one event of the relay; its end is noticed by the supervisor, which ends the cell.
    fn take(&mut self, event: Option<Event>) {
        match event {
            None => self.talk = None,
            Some(Event::Output { base64 }) => {
                let piece = Output::from(STANDARD.decode(base64).unwrap_or_default());
                let room = self.clocks.output_bytes_max - self.output.len();
                self.output.append(&piece, self.clocks.output_bytes_max);
                if piece.len() > room && !self.output_too_long {
                    self.output_too_long = true;
                    self.handle.cancel(CancelReason::Output);
                }
                let _full = self.progress.try_send(Progress::Output { output: piece });
            }
            Some(Event::OutputEnd) => self.output_over = true,
            Some(Event::Refused { what }) => {
                self.refused.get_or_insert(what);
                if self.clocks.strict {
                    self.handle.cancel(CancelReason::Request);
                }
            }
            Some(_) => {} // the gate's, which nobody has asked yet
        }
    }

    /// Collects the rest of the output and says how the cell ended: a program that printed too
    /// much is told so, also when it ended by itself before anybody had read that far.
    async fn rest_of_output(&mut self, ending: Ending) -> Result<Ending, Failure> {
        let work = async {
            while !self.output_over && self.talk.is_some() {
                let event = receive(self.talk.as_ref()).await;
                self.take(event);
            }
        };
        tokio::time::timeout(AFTER_TIMEOUT, work)
            .await
            .map_err(|_| internal(&"the relay did not answer after the cell's end"))?;
        Ok(match ending {
            Ending::Success | Ending::Failed { .. } if self.output_too_long => Ending::Cancelled {
                why: CancelReason::Output,
            },
            other => other,
        })
    }
}

/// The next event; never, once the relay is gone.
pub(super) async fn receive(talk: Option<&AsyncChannel>) -> Option<Event> {
    match talk {
        Some(talk) => talk
            .receive::<Event>()
            .await
            .ok()
            .flatten()
            .map(|(event, _)| event),
        None => std::future::pending().await,
    }
}

/// What the session served, once the relay is gone.
async fn closed(
    served: &mut Asked,
    progress: &mpsc::Sender<Progress>,
) -> Result<(Vec<ModuleHash>, Vec<String>, Option<Trouble>), Failure> {
    let work = async {
        let mut modules = Vec::new();
        loop {
            match served.next().await.map_err(ending::of_trouble)?.answer {
                Answer::Closed {
                    served,
                    more,
                    missing,
                    trouble,
                } => {
                    modules.extend(served);
                    if !more {
                        return Ok((modules, missing, trouble));
                    }
                }
                Answer::Served { module } => {
                    let _full = progress.try_send(Progress::Module { module });
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(AFTER_TIMEOUT, work)
        .await
        .unwrap_or_else(|_| Err(internal(&"the fetcher did not close the session")))
}

impl Outcome {
    /// Turns an ending without binary into a failure.
    pub(super) fn into_failure(self, policy: &str) -> Failure {
        ending::of_cell(Failed {
            cell: summary(policy, "", &self.report),
            ending: self.ending,
            refused: self.refused,
            missing: self.missing,
            trouble: self.trouble,
            output: self.output,
            silence: self.clocks.silence,
            output_bytes_max: self.clocks.output_bytes_max,
        })
    }
}

/// A report as people see it.
pub(super) fn summary(policy: &str, ending: &str, report: &Report) -> super::CellSummary {
    super::CellSummary {
        policy: policy.to_owned(),
        policy_sha256: report.policy_sha256.clone(),
        in_force: report.in_force.clone(),
        not_in_force: report.not_in_force.clone(),
        ending: ending.to_owned(),
        cpu_ms: report.cpu_ms,
        memory_peak_bytes: report.memory_peak_bytes,
    }
}

pub(super) fn supervisor(error: &SuperviseError) -> Failure {
    let code = match error {
        SuperviseError::Refused(_) => "supervisor",
        SuperviseError::Gone => "supervisor_gone",
    };
    ending::failure(
        code,
        FailureClass::Internal,
        error.to_string(),
        ending::IN_TRACE,
    )
}

pub(super) fn internal(error: &dyn std::fmt::Display) -> Failure {
    ending::failure(
        "internal",
        FailureClass::Internal,
        error.to_string(),
        ending::IN_TRACE,
    )
}
