//! The same hammer on two logs: ours, behind an address for appending that only this program has,
//! and Tessera's in a folder with the settings of its own example.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::{self, State},
    http::StatusCode,
    routing::{get, post},
};
use hotcell::{
    log::{Log, LogConfig, NewEntry},
    spec::{BuildKey, Record, Sum, hex},
    tlog::SigningKey,
};
use hotcell_integration::{command::Run, hostile};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

use crate::{Anything, say};

/// Who write at the same time; Tessera answers once a second, so it needs many to show what it can.
const WRITERS: [u32; 2] = [64, 1024];
const LASTS: Duration = Duration::from_secs(15);
const ORIGIN: &str = "hammered";

/// Appends per second over HTTP of both logs, while readers check what they read.
pub(crate) fn compare(runtime: &tokio::runtime::Runtime, folder: &Path) -> Result<(), Anything> {
    for writers in WRITERS {
        let folder = folder.join(format!("hammer-{writers}"));
        let ours = runtime.block_on(ours(&folder.join("ours"), writers))?;
        let theirs = runtime.block_on(theirs(&folder.join("theirs"), writers))?;
        say(
            &format!("hammer with {writers} writers, appends of two leaves"),
            &format!("{ours:.0}/s"),
        );
        say(
            "  Tessera in a folder, appends of one leaf",
            &format!("{theirs:.0}/s"),
        );
        say("  ratio", &format!("{:.1}", ours / theirs));
    }
    Ok(())
}

async fn ours(folder: &Path, writers: u32) -> Result<f64, Anything> {
    let config = LogConfig::of(&folder.join("data"));
    let log = Log::open_local(&config, &folder.join("sign"), ORIGIN)?;
    let router = Router::new()
        .route("/add", post(add))
        .route("/checkpoint", get(checkpoint))
        .route("/tile/{*path}", get(tile))
        .with_state(log.clone());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(axum::serve(listener, router).into_future());
    let key = log.verifier_key().to_owned();
    let leaves = hammer(address, key, writers).await?;
    server.abort();
    Ok(leaves / 2.0) // each entry has a companion
}

async fn add(State(log): State<Log>, body: Bytes) -> Result<String, StatusCode> {
    let sha256: [u8; 32] = Sha256::digest(&body).into();
    let key = format!("ex.example/h{}@v1.0.0/linux-amd64-go1.26.8/", hex(&sha256));
    let entry = NewEntry {
        record: Record {
            key: BuildKey::parse(&key).map_err(|_| StatusCode::BAD_REQUEST)?,
            size: body.len() as u64,
            sum: Sum::of(&sha256),
        },
        sha256,
        provenance_sha256: [9; 32],
        with: Box::new(|_, _| Ok(())),
    };
    let index = log.append(entry).await;
    index
        .map(|index| index.to_string())
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

async fn checkpoint(State(log): State<Log>) -> String {
    log.checkpoint().to_string()
}

async fn tile(
    State(log): State<Log>,
    extract::Path(path): extract::Path<String>,
) -> Result<Vec<u8>, StatusCode> {
    let bytes = log.tile(&path);
    let bytes = bytes.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    bytes.ok_or(StatusCode::NOT_FOUND)
}

async fn theirs(folder: &Path, writers: u32) -> Result<f64, Anything> {
    let key = SigningKey::from_seed(ORIGIN, &[7; 32])?;
    // A port that was free a moment ago: the program takes a number and tells none.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await?
        .local_addr()?;
    let mut server = Run::new(hostile::tessera("cmd/conformance/posix"))
        .arg(format!("--storage_dir={}", folder.display()))
        .arg(format!("--listen={address}"))
        .env("LOG_PRIVATE_KEY", key.secret_text())
        .spawn();
    let leaves = hammer(address, key.verifier().to_string(), writers).await;
    let killed = server.kill();
    server.wait()?;
    killed?;
    leaves
}

/// Leaves per second that came into the log at this address.
async fn hammer(address: SocketAddr, key: String, writers: u32) -> Result<f64, Anything> {
    wait_for(address).await?;
    let (url, before, begin) = (
        format!("http://{address}/"),
        size(address).await?,
        Instant::now(),
    );
    let run = Run::new(hostile::tessera("internal/hammer"))
        .arg(format!("--log_public_key={key}"))
        .arg(format!("--log_url={url}"))
        .arg(format!("--write_log_url={url}"))
        .arg(format!("--num_writers={writers}"))
        .args(["--max_write_ops=100000", "--num_readers_random=8"])
        .args([
            "--num_readers_full=0",
            "--max_read_ops=500",
            "--show_ui=false",
        ])
        .arg(format!("--max_runtime={}s", LASTS.as_secs()))
        .time_max(LASTS * 3);
    let ended = tokio::task::spawn_blocking(move || run.wait()).await?;
    let said = ended.err();
    if let Some(bad) = said
        .lines()
        .find(|line| line.contains("failed to get leaf") || line.contains("not OK"))
    {
        return Err(format!("the hammer: {bad}").into());
    }
    let leaves = u32::try_from(size(address).await? - before)?;
    if leaves == 0 {
        return Err(format!("the hammer wrote nothing: {said}").into());
    }
    Ok(f64::from(leaves) / begin.elapsed().as_secs_f64())
}

async fn wait_for(address: SocketAddr) -> Result<(), Anything> {
    for _ in 0..100 {
        if size(address).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err("the log does not answer".into())
}

/// Second line of the checkpoint.
async fn size(address: SocketAddr) -> Result<u64, Anything> {
    let client = reqwest::Client::builder().timeout(LASTS).build()?;
    let answer = client.get(format!("http://{address}/checkpoint"));
    let answer = answer.send().await?;
    let text = answer.error_for_status()?.text().await?;
    let size = text.lines().nth(1).ok_or("no checkpoint")?;
    Ok(size.parse()?)
}
