//! One client that takes all connections it can get. In a network of its own, because whoever comes
//! from this machine's loopback has no limit.

use std::{io::ErrorKind, net::SocketAddr, thread, time::Duration};

use hotcell_integration::{
    authority::{self, Authority},
    command::Run,
    fake, http, paths,
    service::Place,
};
use nix::sched::{CloneFlags, unshare};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::flood::raise_files;

/// Addresses for documentation (RFC 5737) that nobody else has here: the service, one who takes
/// and somebody else.
const SERVICE: &str = "198.51.100.1:8000";
const GREEDY: &str = "198.51.100.7:0";
const OTHER: &str = "203.0.113.9:0";
/// What this machine may not have: it is not what is tested here.
const WEAKER: [&str; 8] = [
    "--accept-weaker",
    "memory limit",
    "--accept-weaker",
    "process limit of the whole cell",
    "--accept-weaker",
    "cpu share",
    "--accept-weaker",
    "landlock: sockets with names",
];
/// More connections than one client may hold, and more handshakes than it may begin at once.
const TRIES: usize = 1_200;
/// Files with which the service takes as many connections as it ever does.
const FILES_MIN: u64 = 9_000;
/// Whoever is sent away sees it at once; whoever is not waits for longer to be asked to hurry.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Does it in a network namespace that has only these addresses.
fn apart(what: impl FnOnce() + Send + 'static) {
    let apart = move || {
        // With the 512 that no connection gets, and an eighth that is less than the tries.
        raise_files(FILES_MIN);
        unshare(CloneFlags::CLONE_NEWNET).expect("root makes namespaces");
        let ip = |line: &str| drop(Run::new("ip").args(line.split(' ')).succeed());
        ip("link set lo up");
        for address in [SERVICE, GREEDY, OTHER] {
            let (address, _) = address.split_once(':').expect("with a port");
            ip(&format!("address add {address}/32 dev lo"));
        }
        what();
    };
    thread::spawn(apart).join().expect("see above");
}

/// On this thread, which alone is in that network.
async fn connect(from: &str) -> TcpStream {
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(address(from)).expect("the address is ours");
    let connected = socket.connect(address(SERVICE)).await;
    connected.expect("the service listens")
}

/// Opens them all at once, says something on each, and leaves out those that are closed again.
async fn open(from: &str, count: usize, say: &[u8]) -> Vec<TcpStream> {
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = connect(from).await;
        let _reset = stream.write_all(say).await;
        all.push(stream);
    }
    tokio::time::sleep(AT_ONCE).await;
    all.retain_mut(|stream| {
        // Nothing was said, and the end was not either.
        let said = stream.try_read(&mut [0; 1]);
        said.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    });
    all
}

async fn is_answered(from: &str) -> bool {
    let mut stream = connect(from).await;
    let ask = b"GET /robots.txt HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut answer = String::new();
    // Who is sent away is reset, perhaps before all is written.
    let _closed = stream.write_all(ask).await;
    let _reset = stream.read_to_string(&mut answer).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 200 OK"),
        "{answer}"
    );
    !answer.is_empty()
}

#[test]
fn one_client_cannot_take_all_connections_from_the_others() {
    apart(|| {
        let folder = paths::scratch("crowd");
        let place = Place::new(folder.path(), fake::shared());
        let _service = place.serve_at(SERVICE, &WEAKER);
        http::runtime().block_on(async {
            let held = open(GREEDY, TRIES, b"GET / HTTP/1.1\r\n").await;
            assert_eq!(held.len(), 1_024, "an eighth of all");
            assert!(is_answered(OTHER).await);
            assert!(!is_answered(GREEDY).await);
            drop(held);
            for tried in 0.. {
                if is_answered(GREEDY).await {
                    break;
                }
                assert!(tried < 100, "who has left may come again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    });
}

#[test]
fn one_client_begins_only_so_many_handshakes() {
    apart(|| {
        let folder = paths::scratch("handshakes");
        let authority = Authority::default();
        authority::put(folder.path(), &authority.pair("localhost"));
        let place = Place::new(folder.path(), fake::shared());
        let pair = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"];
        let _service = place.serve_at(SERVICE, &[&WEAKER[..], &pair].concat());
        http::runtime().block_on(async {
            let begun = open(GREEDY, TRIES, b"").await.len();
            // 300, and one in 20 ms while all of them came; it might have held more.
            assert!((300..=700).contains(&begun), "{begun}");
            assert_eq!(open(OTHER, 5, b"").await.len(), 5, "others may begin");
        });
    });
}
