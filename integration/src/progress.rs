//! A reader of event streams, as a browser's EventSource is one: it knows its last id and comes
//! back with it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// Longest silence of a stream that lives; the service says something every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(40);

/// The stream of one build and what was read of it, over all connections.
#[derive(Debug)]
pub struct Reader {
    path: String,
    /// Id of the last event, which a browser sends when it comes back.
    pub last: Option<String>,
    /// Kind and data of each event since the last connection was made.
    pub events: Vec<(String, String)>,
}

impl Reader {
    /// Of the build page at `path`, as [`crate::service::build_path`] says it.
    pub fn new(path: &str) -> Self {
        Self {
            path: format!("{path}events"),
            last: None,
            events: Vec::new(),
        }
    }

    /// Connects and reads until the stream ends, breaks, or `time_max` has passed; the status, or
    /// nothing when there was no answer.
    pub fn read(&mut self, address: SocketAddr, time_max: Duration) -> Option<u16> {
        let deadline = Instant::now() + time_max;
        self.events.clear();
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(SILENCE_MAX)).ok()?;
        let last = self.last.iter();
        let last: String = last.map(|id| format!("Last-Event-ID: {id}\r\n")).collect();
        let path = &self.path;
        // In the old form, so that the body comes as it is, without lengths of its parts.
        let head = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n{last}\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let (mut kind, mut data) = (String::new(), String::new());
        for line in lines {
            match line.split_once(": ") {
                Some(("id", id)) => self.last = Some(id.to_owned()),
                Some(("event", event)) => event.clone_into(&mut kind),
                Some(("data", line)) => line.clone_into(&mut data),
                None if line.is_empty() && !kind.is_empty() => {
                    let event = (std::mem::take(&mut kind), std::mem::take(&mut data));
                    self.events.push(event);
                }
                _ => {} // the rest of the head, a comment, when to come back
            }
            if Instant::now() > deadline {
                break;
            }
        }
        Some(status)
    }

    /// The data of the last event, when it says that the build is over.
    pub fn end(&self) -> Option<&str> {
        let last = self.events.last();
        last.and_then(|(kind, data)| (kind == "end").then_some(data.as_str()))
    }
}
