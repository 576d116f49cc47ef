//! The relay: the only peer of one cell, and the gate for what comes out of it.
//!
//! Started by the supervisor, one for each cell, with nothing but descriptors: no file system, no
//! key, no database, no other network. It reads bytes of one hostile cell; its death ends that
//! build and nothing else. It must never send a byte to the cell that `fetch` has not verified.

mod buildinfo;
mod code;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod gate;
mod http;
mod path;
mod session;
pub mod wire;

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd, RawFd},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hotcell_sandbox::{
    channel::{Channel, ChannelError},
    inherit,
    privilege::{self, Role},
};
use tokio::{io::AsyncReadExt as _, net::unix::pipe, sync::mpsc};

use self::{
    gate::{Expected, GateError},
    session::Session,
    wire::{Event, OUTPUT_BYTES_MAX, Order, PACKAGES_MAX},
};
use crate::{channel::AsyncChannel, spec};

/// Numbers of the descriptors that the supervisor starts a relay with.
mod number {
    use super::RawFd;
    /// Listener made inside the cell's network namespace.
    pub(super) const LISTENER: RawFd = 3;
    /// Socket to `fetch`.
    pub(super) const SESSION: RawFd = 4;
    /// Socket to the asker.
    pub(super) const TALK: RawFd = 5;
    /// What the cell's program prints.
    pub(super) const OUTPUT: RawFd = 6;
    /// The cell's `GOPATH/bin`.
    pub(super) const FOLDER: RawFd = 7;
    /// Receives the artifact.
    pub(super) const ARTIFACT: RawFd = 8;
}

/// Events that wait for the asker; more than that holds the cell back.
const EVENTS_MAX: usize = 64;

/// Why a relay ended early. The supervisor then ends the cell.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Started by somebody who does not know how.
    #[error("relay was started without its descriptors; only the supervisor starts one")]
    Descriptors(#[source] io::Error),
    /// The kernel cannot take away what a relay must not have.
    #[error("cannot give up files, connections and system calls")]
    Power(#[from] privilege::ConfineError),
    /// The asker's socket failed.
    #[error("the asker is gone")]
    Talk(#[from] ChannelError),
}

/// Runs the role until the asker closes its socket.
///
/// # Errors
/// See [`RelayError`].
pub fn run() -> Result<(), RelayError> {
    let take = |number| inherit::take(number).map_err(RelayError::Descriptors);
    let (listener, session, talk) = (
        take(number::LISTENER)?,
        take(number::SESSION)?,
        take(number::TALK)?,
    );
    let (output, folder, artifact) = (
        take(number::OUTPUT)?,
        take(number::FOLDER)?,
        take(number::ARTIFACT)?,
    );
    privilege::confine(Role::Relay, folder.as_fd(), &[])?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RelayError::Descriptors)?;
    runtime.block_on(async {
        let session = Arc::new(Session::new(channel(session)?));
        let (events, queue) = mpsc::channel(EVENTS_MAX);
        let listener = std::net::TcpListener::from(listener);
        listener
            .set_nonblocking(true)
            .map_err(RelayError::Descriptors)?;
        let listener =
            tokio::net::TcpListener::from_std(listener).map_err(RelayError::Descriptors)?;
        let output = pipe::Receiver::from_owned_fd(output).map_err(RelayError::Descriptors)?;

        let running = Arc::clone(&session);
        tokio::spawn(async move { running.run().await });
        tokio::spawn(http::serve(listener, Arc::clone(&session), events.clone()));
        tokio::spawn(forward(output, events.clone()));
        talk_to_asker(
            channel(talk)?,
            queue,
            events,
            &session,
            folder,
            File::from(artifact),
        )
        .await
    })
}

fn channel(socket: OwnedFd) -> Result<AsyncChannel, RelayError> {
    AsyncChannel::new(Channel::from(socket)).map_err(RelayError::Descriptors)
}

/// Sends events and takes orders until the asker closes its end.
async fn talk_to_asker(
    talk: AsyncChannel,
    mut queue: mpsc::Receiver<Event>,
    events: mpsc::Sender<Event>,
    session: &Arc<Session>,
    folder: OwnedFd,
    artifact: File,
) -> Result<(), RelayError> {
    let talk = Arc::new(talk);
    let sending = Arc::clone(&talk);
    tokio::spawn(async move {
        while let Some(event) = queue.recv().await {
            if sending.send(&event, &[]).await.is_err() {
                break; // the asker is gone: the receiving side ends the process
            }
        }
    });
    let mut output = Some((folder, artifact)); // one gate for one cell
    while let Some((order, _)) = talk.receive::<Order>().await? {
        let Some((folder, artifact)) = output.take() else {
            continue;
        };
        let session = Arc::clone(session);
        let package = match &order {
            Order::Gate { package, .. } => package.clone(),
        };
        let pass = move || pass(folder, artifact, &session, &order);
        let (event, artifact) = match tokio::task::spawn_blocking(pass).await {
            Ok((event, artifact)) => (event, Some(artifact)),
            Err(_) => {
                let why = "the gate failed".to_owned();
                (Event::GateRefused { why, alarm: true }, None)
            }
        };
        let artifact = artifact.filter(|_| matches!(event, Event::Gated { .. }));
        let _gone = events.send(event).await;
        if let Some(artifact) = artifact {
            measure(artifact, package, &events).await;
        }
    }
    Ok(())
}

fn pass(folder: OwnedFd, mut artifact: File, session: &Session, order: &Order) -> (Event, File) {
    let Order::Gate {
        package,
        module,
        version,
        cross,
    } = order;
    let expected = Expected {
        package,
        module: (module, version),
        cross,
        served: &session.served(),
    };
    let event = match gate::pass(folder, &mut artifact, &expected) {
        Ok(gated) => Event::Gated {
            sha256: spec::hex(&gated.sha256),
            size: gated.size,
        },
        Err(error) => Event::GateRefused {
            why: error.to_string(),
            alarm: matches!(error, GateError::Alarm),
        },
    };
    (event, artifact)
}

/// Says what code a binary has that is through already: whatever happens here, it stays so.
async fn measure(artifact: File, package: String, events: &mpsc::Sender<Event>) {
    let measure = move || code::measure(&artifact, &package);
    let code = tokio::task::spawn_blocking(measure).await.ok().flatten();
    let other = code.as_ref().map(|code| code.other);
    for packages in code
        .iter()
        .flat_map(|code| code.packages.chunks(PACKAGES_MAX))
    {
        let packages = packages.to_vec();
        let _gone = events.send(Event::Packages { packages }).await;
    }
    let _gone = events.send(Event::Measured { other }).await;
}

/// Forwards what the program prints, piece by piece.
async fn forward(mut output: pipe::Receiver, events: mpsc::Sender<Event>) {
    let mut buffer = vec![0_u8; OUTPUT_BYTES_MAX];
    loop {
        match output.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => {
                let base64 = STANDARD.encode(&buffer[..read]);
                if events.send(Event::Output { base64 }).await.is_err() {
                    return;
                }
            }
        }
    }
    let _gone = events.send(Event::OutputEnd).await;
}
