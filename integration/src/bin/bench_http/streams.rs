//! Streams that wait: what so many people cost who look at a page of a build in the line.

use std::time::Duration;

use hotcell_integration::{
    host, http,
    service::{Place, Service, build_path},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{Anything, say};

/// How many wait.
const STREAMS: usize = 5_000;
/// Builds that they wait for.
const BUILDS: usize = 24;

/// Opens all streams while other builds run, and says what memory the service has then.
pub(crate) fn wait(place: &Place) -> Result<(), Anything> {
    let service = place.serve(&["--max-builds", "1"]);
    let before = memory_mib(&service)?;
    for module in ["ex.example/big3", "ex.example/big2", "ex.example/big"] {
        let url = format!("{}{}", service.url(), build_path(module));
        http::post_with(&url, "", &[("sec-fetch-site", "same-origin")]);
    }
    let (waiting, after) = http::runtime().block_on(async {
        let mut all = Vec::with_capacity(STREAMS);
        for n in 0..STREAMS {
            let path = build_path(&format!("ex.example/many{}", n % BUILDS));
            let stream = open(&service, &path).await;
            all.push(stream.map_err(|why| format!("stream {n}: {why}"))?);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = memory_mib(&service)?;
        let mut waiting = 0;
        for stream in &mut all {
            waiting += usize::from(is_waiting(stream).await);
        }
        Ok::<_, Anything>((waiting, after))
    })?;
    say("streams that wait", &waiting.to_string());
    say(
        "  memory of `serve` before and with them",
        &format!("{before:.0} {after:.0} MiB"),
    );
    Ok(())
}

async fn open(service: &Service, path: &str) -> Result<TcpStream, Anything> {
    let mut stream = TcpStream::connect(service.address()).await?;
    let ask = format!(
        "GET {path}events HTTP/1.1\r\nHost: {}\r\nSec-Fetch-Site: same-origin\r\n\r\n",
        service.address()
    );
    stream.write_all(ask.as_bytes()).await?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    match head.ends_with(b"200") {
        true => Ok(stream),
        false => {
            let mut rest = [0; 2_000];
            let bytes = stream.read(&mut rest).await?;
            Err(String::from_utf8_lossy(&rest[..bytes]).into())
        }
    }
}

/// Whether the other side has not ended it; takes what has arrived.
async fn is_waiting(stream: &mut TcpStream) -> bool {
    let mut arrived = [0; 4096];
    loop {
        let read = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut arrived)).await;
        match read {
            Ok(Ok(1..)) => {
                if String::from_utf8_lossy(&arrived).contains("event: end") {
                    return false;
                }
            }
            Ok(_) => return false,
            Err(_) => return true,
        }
    }
}

fn memory_mib(service: &Service) -> Result<f64, Anything> {
    let status = host::status(service.pid());
    let text = status.get("VmRSS").ok_or("no VmRSS")?;
    let kib: f64 = text.trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
