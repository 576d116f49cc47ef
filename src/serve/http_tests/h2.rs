//! HTTP/2 frame by frame: what a client may do on one connection, and what ends it.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed, time::Duration};

use tokio::{io::DuplexStream, time::Instant};

use super::{super::streams::Streams, *};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
/// END_STREAM and END_HEADERS.
const WHOLE: u8 = 0x5;
/// REFUSED_STREAM (RFC 9113, 7).
const REFUSED: [u8; 4] = [0, 0, 0, 7];

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// Literal fields, without any table (RFC 7541, 6.2.2).
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        // Longer than 126 bytes takes a second byte, up to 254.
        let length = u8::try_from(text.len()).unwrap();
        let length = match length.checked_sub(127) {
            Some(rest) if rest < 128 => vec![127, rest],
            Some(_) => panic!("too long"),
            None => vec![length],
        };
        [&length, text.as_bytes()].concat()
    };
    let one = |(name, value): &(&str, &str)| [vec![0], text(name), text(value)].concat();
    fields.iter().flat_map(one).collect()
}

fn get(path: &str) -> Vec<u8> {
    fields(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", path),
        (":authority", "localhost"),
    ])
}

/// A client that does what it is told, however wrong.
struct Client {
    stream: DuplexStream,
}

impl Client {
    async fn connect(site: &Site, settings: &[u8]) -> Self {
        let (stream, theirs) = tokio::io::duplex(1 << 20);
        let door = listen::Door {
            router: site.router.clone(),
            tls: None,
            metrics: Arc::clone(&site.app.metrics),
        };
        let (theirs, written) = door.watched(theirs);
        let streams = Some(Streams::new(written));
        let peer = SocketAddr::from(([192, 0, 2, 1], 1_000));
        drop(tokio::spawn(door.speak(
            theirs,
            streams,
            peer,
            site.stop.subscribe(),
        )));
        let mut client = Self { stream };
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        client.send(&frame(SETTINGS, 0, 0, settings)).await;
        client
    }

    /// False when the other side is gone.
    async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Nothing when the connection has ended.
    async fn receive(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload,
        })
    }

    /// Reads to the end of the connection, answering pings and settings as a good client does.
    async fn until_end(&mut self) -> Vec<Frame> {
        let mut all = Vec::new();
        let late = Instant::now() + Duration::from_mins(10);
        while let Ok(Some(one)) = tokio::time::timeout_at(late, self.receive()).await {
            if [PING, SETTINGS].contains(&one.kind) && one.flags == 0 {
                let payload = if one.kind == PING {
                    &one.payload[..]
                } else {
                    &[]
                };
                self.send(&frame(one.kind, 1, 0, payload)).await;
            }
            all.push(one);
        }
        all
    }

    /// The body of one answer, and its status as HPACK has it.
    async fn answer(&mut self, stream: u32) -> (u8, Vec<u8>) {
        let (mut status, mut body) = (0, Vec::new());
        while let Some(one) = self.receive().await {
            match one.kind {
                HEADERS if one.stream == stream => status = one.payload[0],
                DATA if one.stream == stream => body.extend(one.payload),
                GOAWAY | RST_STREAM => panic!("refused: {:?}", one.payload),
                _ => continue,
            }
            if one.flags & 1 == 1 {
                break;
            }
        }
        (status, body)
    }
}

#[tokio::test]
async fn the_host_of_an_address_counts_as_the_header_does() {
    let site = Site::new().await;
    let mut client = Client::connect(&site, &[]).await;
    client
        .send(&frame(HEADERS, WHOLE, 1, &get("/robots.txt")))
        .await;
    let (status, body) = client.answer(1).await;
    assert_eq!(status, 0x88, "200 (RFC 7541, A)");
    assert!(body.starts_with(b"User-agent"));
    let post = |authority, origin| {
        let path = format!("/{KEY}");
        let all = [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", &*path),
            (":authority", authority),
            ("origin", origin),
        ];
        fields(&all)
    };
    for (stream, authority, origin) in [
        (3, "localhost", "https://evil.example"),
        (5, "evil.example", "https://evil.example"),
        (7, "build.example.org", "https://localhost"),
    ] {
        let post = post(authority, origin);
        client.send(&frame(HEADERS, WHOLE, stream, &post)).await;
        client.answer(stream).await;
        assert_eq!(site.started(), 0, "{authority} {origin}");
    }
    assert_eq!(site.app.metrics.hosts_refused.load(Relaxed), 1);
    assert_eq!(site.app.metrics.origins_refused.load(Relaxed), 2);
    let ours = post("build.example.org", "https://build.example.org");
    client.send(&frame(HEADERS, WHOLE, 9, &ours)).await;
    client.answer(9).await;
    assert_eq!(site.app.metrics.origins_refused.load(Relaxed), 2);
}

#[tokio::test]
async fn streams_that_stay_open_are_few_and_who_opens_more_is_cut_off() {
    let site = Site::new().await;
    let mut client = Client::connect(&site, &[]).await;
    // Never more than this is ours to take: not a byte of any answer.
    client
        .send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]))
        .await;
    for stream in (1..81).step_by(2) {
        let open = frame(HEADERS, WHOLE, stream, &get("/static/hotcell.css"));
        client.send(&open).await;
    }
    let mut kinds: BTreeMap<u8, usize> = BTreeMap::new();
    while kinds.values().sum::<usize>() < 40 {
        let one = client.receive().await.expect("the connection goes on");
        match one.kind {
            HEADERS => {}
            RST_STREAM => assert_eq!(one.payload, REFUSED),
            _ => continue,
        }
        *kinds.entry(one.kind).or_default() += 1;
    }
    assert_eq!(kinds, BTreeMap::from([(HEADERS, 32), (RST_STREAM, 8)]));
    let mut sent = 0;
    for stream in (81..2_000).step_by(2) {
        let open = frame(HEADERS, WHOLE, stream, &get("/static/hotcell.css"));
        if !client.send(&open).await {
            break;
        }
        sent += 1;
    }
    let rest = client.until_end().await;
    let refused = rest.iter().filter(|one| one.kind == RST_STREAM).count();
    assert!(refused < 100, "{refused} of {sent}");
}

#[tokio::test]
async fn a_flood_of_resets_ends_the_connection_however_it_is_paced() {
    for is_paced in [false, true] {
        let site = Site::new().await;
        site.bench.executor.go.send_replace(false); // what is reset has no answer yet
        site.post(&format!("/{KEY}"), "").await;
        let path = format!("/{KEY}record");
        let mut client = Client::connect(&site, &[]).await;
        let mut sent = 0;
        for stream in (1..20_000).step_by(2) {
            let open = frame(HEADERS, WHOLE, stream, &get(&path));
            let reset = frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
            if !client.send(&open).await {
                break;
            }
            if is_paced {
                tokio::task::yield_now().await;
            }
            if !client.send(&reset).await {
                break;
            }
            if is_paced {
                tokio::task::yield_now().await;
            }
            sent += 1;
        }
        assert!(sent < 9_000, "{is_paced}: {sent}");
        let rest = client.until_end().await;
        let ended = rest.iter().any(|one| one.kind == GOAWAY);
        let cut = site.app.metrics.floods.load(Relaxed) == 1;
        assert!(ended || cut, "{is_paced}");
    }
}

#[tokio::test]
async fn a_head_that_never_ends_is_refused_early() {
    let site = Site::new().await;
    let mut client = Client::connect(&site, &[]).await;
    client.send(&frame(HEADERS, 1, 1, &get("/"))).await;
    let more = fields(&[("x-a", &"a".repeat(200))]).repeat(70);
    let mut sent = 0;
    while sent < 10_000_000 && client.send(&frame(CONTINUATION, 0, 1, &more)).await {
        sent += more.len();
        tokio::task::yield_now().await;
    }
    assert!(sent < 3_000_000, "{sent}");
    client.until_end().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_requests_ends_in_order() {
    let site = Site::new().await;
    let mut client = Client::connect(&site, &[]).await;
    let begun = Instant::now();
    let all = client.until_end().await;
    let waited = begun.elapsed().as_secs();
    assert!((20..=26).contains(&waited), "{waited}");
    assert!(all.iter().any(|one| one.kind == GOAWAY));
    assert_eq!(site.app.metrics.stalled.load(Relaxed), 0);
    // One that does not even begin.
    let (mut stream, theirs) = tokio::io::duplex(1_000);
    let door = listen::Door {
        router: site.router.clone(),
        tls: None,
        metrics: Arc::clone(&site.app.metrics),
    };
    let (theirs, written) = door.watched(theirs);
    let peer = SocketAddr::from(([192, 0, 2, 1], 1_000));
    let streams = Some(Streams::new(written));
    drop(tokio::spawn(door.speak(
        theirs,
        streams,
        peer,
        site.stop.subscribe(),
    )));
    let begun = Instant::now();
    stream.write_all(b"PRI").await.unwrap();
    drop(stream.read_to_end(&mut Vec::new()).await);
    let waited = begun.elapsed().as_secs();
    assert!((40..=46).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_end_in_time_is_answered_and_the_connection_ends_in_order() {
    let site = Site::new().await;
    let mut client = Client::connect(&site, &[]).await;
    let all = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/api/v1/builds"),
        (":authority", "localhost"),
    ];
    let begun = Instant::now();
    client.send(&frame(HEADERS, 4, 1, &fields(&all))).await;
    client.send(&frame(DATA, 0, 1, b"{")).await;
    let (_, body) = client.answer(1).await;
    let waited = begun.elapsed().as_secs();
    assert!((19..=21).contains(&waited), "{waited}");
    assert!(String::from_utf8_lossy(&body).contains("slow_body"));
    client.until_end().await;
    let waited = begun.elapsed().as_secs();
    assert!((40..=50).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_and_answers_pings_is_cut_off() {
    // With and without a piece that waits in the connection after its answer has ended.
    for window in [[0, 4, 0, 0, 0, 0], [0, 4, 0, 0, 0, 1]] {
        let site = Site::new().await;
        let mut client = Client::connect(&site, &window).await;
        let open = frame(HEADERS, WHOLE, 1, &get("/static/hotcell.css"));
        client.send(&open).await;
        let begun = Instant::now();
        client.until_end().await;
        let waited = begun.elapsed().as_secs();
        assert!((60..=90).contains(&waited), "{waited}");
        assert_eq!(site.app.metrics.stalled.load(Relaxed), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_lives_as_long_as_its_reader() {
    let site = Site::new().await;
    let mut client = Client::connect(&site, &[]).await;
    // It waits for a build that does not end.
    site.bench.executor.go.send_replace(false);
    let open = frame(HEADERS, WHOLE, 1, &get(&format!("/{KEY}events")));
    client.send(&open).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_mins(10) {
        let one = client.receive().await.expect("it goes on");
        assert_ne!(one.kind, GOAWAY);
        if one.kind == PING && one.flags == 0 {
            client.send(&frame(PING, 1, 0, &one.payload)).await;
        }
    }
}
