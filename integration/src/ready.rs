//! How a service that starts says that it is ready: its key and its address, on stdout, and what
//! other logs need to have it as their witness.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Longest start: the first one makes keys and starts all roles.
pub(crate) const START_MAX: Duration = Duration::from_secs(60);

/// A process that ends the service when this program is gone, however it went.
pub(crate) fn guard(pid: u32) -> Child {
    Command::new("sh")
        .args(["-c", &format!("read line; kill -TERM {pid} 2>/dev/null")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell starts")
}

/// Lines of the child's stdout, read in a thread until it closes.
pub(crate) fn lines(child: &mut Child) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::sync_channel(64);
    let stdout = child.stdout.take().expect("stdout is a pipe");
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Nobody listens any more once the service is ready.
            drop(sender.try_send(line));
        }
    });
    receiver
}

/// What `serve` printed.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) key: String,
    pub(crate) address: SocketAddr,
    /// `NAME+ID+KEY URL`, of a witness.
    pub(crate) witness: Option<String>,
}

/// Key and address, wherever they stand in what `serve` prints; the line of a witness after them.
pub(crate) fn wait_until_ready(lines: &mpsc::Receiver<String>, witness: bool) -> Option<Ready> {
    let deadline = Instant::now() + START_MAX;
    let next = || {
        let left = deadline.saturating_duration_since(Instant::now());
        lines.recv_timeout(left).ok()
    };
    let (mut key, mut address) = (None, None);
    while key.is_none() || address.is_none() {
        let line = next()?;
        for word in line.split_whitespace() {
            let plain = word.trim_start_matches("http://").trim_end_matches('/');
            // With TLS it names itself; tests listen on loopback only.
            let tls = plain
                .strip_prefix("https://")
                .and_then(|host| host.split_once(':'));
            let tls = tls.map(|(_, port)| format!("127.0.0.1:{port}"));
            if let Ok(found) = tls.as_deref().unwrap_or(plain).parse() {
                address = address.or(Some(found));
            }
            if word.split('+').count() >= 3 && word.split('+').nth(1).is_some_and(is_key_hash) {
                key = Some(word.to_owned());
            }
        }
    }
    let witness = if witness { Some(next()?) } else { None };
    Some(Ready {
        key: key?,
        address: address?,
        witness,
    })
}

fn is_key_hash(text: &str) -> bool {
    text.len() == 8 && text.chars().all(|letter| letter.is_ascii_hexdigit())
}
