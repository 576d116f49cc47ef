//! One client that takes all connections it can get. In a network of its own, because whoever comes
//! from this machine's loopback has no limit.

use std::{net::SocketAddr, thread, time::Duration};

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
/// More than one client may hold of the most that there can be.
const TRIES: usize = 1_100;
/// Whoever is sent away sees it at once; whoever is not waits for longer to be asked to hurry.
const AT_ONCE: Duration = Duration::from_millis(300);

/// Does it in a network namespace that has only these addresses.
fn apart(what: impl FnOnce() + Send + 'static) {
    let apart = move || {
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

/// Whether the other side has closed it.
async fn is_closed(stream: &mut TcpStream, within: Duration) -> bool {
    let read = tokio::time::timeout(within, stream.read(&mut [0; 1])).await;
    read.is_ok_and(|read| matches!(read, Ok(0) | Err(_)))
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
            let mut held = Vec::new();
            loop {
                let mut stream = connect(GREEDY).await;
                let _reset = stream.write_all(b"GET / HTTP/1.1\r\n").await;
                // The first ones need not be waited for.
                if held.len() >= 32 && is_closed(&mut stream, AT_ONCE).await {
                    break;
                }
                held.push(stream);
                assert!(held.len() < TRIES, "one client has them all");
            }
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
            for begun in 0.. {
                let mut stream = connect(GREEDY).await;
                if begun >= 300 && is_closed(&mut stream, AT_ONCE).await {
                    break;
                }
                assert!(begun < 3_000, "nobody is sent away");
            }
            let mut other = connect(OTHER).await;
            assert!(!is_closed(&mut other, AT_ONCE).await, "others may begin");
        });
    });
}
