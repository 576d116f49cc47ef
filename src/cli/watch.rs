//! How `serve` hears that it must end: a signal, or the end of one of its roles; and that it must
//! read its files again.
//!
//! Roles that it started are waited for as children; of those that a service manager started it
//! sees the socket. Must never let the service go on without one of them.

use std::{
    io,
    process::Child,
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use hotcell_sandbox::channel::Channel;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{oneshot, watch},
};

use super::{Stop, config::Reading, tls::Certificate};
use crate::{roles::Line, serve::Told};

/// One thread for each role, which waits for its end.
#[derive(Debug)]
pub(super) struct Watch {
    threads: Vec<JoinHandle<()>>,
    lines: Vec<Arc<Line>>,
}

/// Copies of the sockets of roles that are nobody's children here.
pub(super) fn lines<const N: usize>(
    channels: [(&'static str, &Channel); N],
) -> io::Result<Vec<(&'static str, Line)>> {
    let copies = channels.map(|(role, channel)| Line::of(channel).map(|line| (role, line)));
    copies.into_iter().collect()
}

impl Watch {
    /// Begins to wait; the receiver gets the name of the first role that ends.
    pub(super) fn begin(
        children: Vec<(&'static str, Child)>,
        lines: Vec<(&'static str, Line)>,
    ) -> (Self, oneshot::Receiver<&'static str>) {
        let (sender, receiver) = oneshot::channel();
        let sender = Arc::new(Mutex::new(Some(sender)));
        let mut watch = Self {
            threads: Vec::new(),
            lines: Vec::new(),
        };
        let mut add = |role, wait: Box<dyn FnOnce() + Send>| {
            let sender = Arc::clone(&sender);
            let thread = std::thread::spawn(move || {
                wait();
                let first = sender.lock().ok().and_then(|mut sender| sender.take());
                if let Some(first) = first {
                    let _stopped_already = first.send(role);
                }
            });
            watch.threads.push(thread);
        };
        for (role, mut child) in children {
            add(
                role,
                Box::new(move || {
                    let _status = child.wait();
                }),
            );
        }
        for (role, line) in lines {
            let line = Arc::new(line);
            watch.lines.push(Arc::clone(&line));
            add(role, Box::new(move || line.wait()));
        }
        (watch, receiver)
    }

    /// Waits until all roles have ended; their sockets are closed by now, or are closed here.
    pub(super) fn end(self) {
        for line in &self.lines {
            line.end();
        }
        for thread in self.threads {
            let _reaped = thread.join();
        }
    }
}

/// The signals by which somebody ends the service in order.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Ends the service as long as nothing else is to be done then.
    hangup: Option<Signal>,
}

impl Signals {
    /// Takes them over; done before anybody is told that the service is there.
    pub(super) fn take() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: Some(signal(SignalKind::hangup())?),
        })
    }

    /// Leaves SIGHUP to somebody who reads a file again then.
    /// May be called again: each of them hears it.
    pub(super) fn leave_hangup(&mut self) -> io::Result<Signal> {
        let another = signal(SignalKind::hangup())?;
        self.hangup = None;
        Ok(another)
    }

    /// Waits for one of them, or for the end of a role, which is told then.
    pub(super) async fn or_end_of_role(
        &mut self,
        ended: oneshot::Receiver<&'static str>,
    ) -> Option<&'static str> {
        tokio::select! {
            () = self.wait() => None,
            role = ended => role.ok(),
        }
    }

    /// Waits until one of them has come, since they were taken over.
    async fn wait(&mut self) {
        let hangup = &mut self.hangup;
        let hung_up = async move {
            match hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = hung_up => {}
        }
    }
}

/// A service that has lost a role has failed.
pub(super) fn without(role: Option<&'static str>) -> Result<(), Stop> {
    let Some(role) = role else { return Ok(()) };
    let text = format!("role `{role}` ended; the service stops");
    Err(Stop::new(Stop::FAILED, text))
}

/// What the operator says; from now on SIGHUP has the files read again that there are, and an
/// authority asked.
pub(super) fn hear(
    said: Told,
    reading: Option<Reading>,
    certificate: Option<Certificate>,
    signals: &mut Signals,
) -> Result<watch::Receiver<Told>, Stop> {
    let mut leave = || {
        let left = signals.leave_hangup();
        left.map_err(|error| Stop::chain(Stop::FAILED, &error))
    };
    let (tell, told) = watch::channel(said);
    // Both end with the runtime, and roles with them.
    if let Some(reading) = reading {
        drop(tokio::spawn(reading.run(leave()?, tell)));
    }
    if let Some(certificate) = certificate {
        drop(tokio::spawn(certificate.run(leave()?)));
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_line_is_told_and_all_lines_are_ended_at_last() {
        let (first, theirs) = Channel::pair().unwrap();
        let (second, other) = Channel::pair().unwrap();
        let lines = lines([("first", &first), ("second", &second)]).unwrap();
        let (watch, ended) = Watch::begin(Vec::new(), lines);
        drop(theirs);
        assert_eq!(ended.await, Ok("first"));
        watch.end();
        assert!(other.receive::<u32>().unwrap().is_none());
        drop((first, second));
    }
}
