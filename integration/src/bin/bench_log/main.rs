//! The log under load, in one run: appends by one and by many, the time of an answer at a steady
//! rate, appends over HTTP by Tessera's hammer, lookups over HTTP and start-up with few and with
//! many records. Beside it what one commit per record costs, which is how a service without batches
//! would do it, and Tessera's own log in a folder under the same hammer.
//!
//! Called by `integration/bench log [RECORDS]`. Prints figures and ratios; asserts nothing.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

mod hammer;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hotcell::log::{Log, LogConfig};
use hotcell_integration::{
    command::Run,
    fake,
    grown::{self, entry},
    paths,
    service::{Place, Service},
};
use rusqlite::Connection;
use tokio::task::JoinSet;

/// Records of the large log when no number is given.
const RECORDS: u64 = 1_000_000;
/// Records of the small log.
const FEW: u64 = 1_000;
/// Who append at the same time.
const SUBMITTERS: u64 = 64;
const EVERY: usize = 64;
/// Appends of each part that is not timed by its records.
const ONE_BY_ONE: u64 = 2_000;
const TOGETHER: u64 = 100_000;
/// Appends per second and seconds of the steady part.
const RATE: u64 = 2_000;
const STEADY_S: u64 = 10;

type Anything = Box<dyn std::error::Error>;

fn main() -> Result<(), Anything> {
    let records = std::env::args().nth(1).map(|text| text.parse());
    let records: u64 = records.transpose()?.unwrap_or(RECORDS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    println!("{:<58} {:>14}", "log", "");
    let single = single_commits()?;
    say("one commit per record, bare SQLite", &rate(single));
    let folder = paths::scratch("bench-log");
    runtime.block_on(appends(folder.path(), single))?;
    hammer::compare(&runtime, folder.path())?;
    if records == 0 {
        return Ok(()); // appends alone
    }
    let (place, folder) = place()?;
    place.serve(&[]).stop(); // makes folders and keys
    grown::append(&place, (0..FEW).map(grown::record));
    let few = served(&place, FEW)?;
    grown::append(&place, (FEW..records).map(grown::record));
    let many = served(&place, records)?;
    say(
        &format!("lookups at {FEW} over lookups at {records} records"),
        &format!("{:.2}", few / many),
    );
    drop(folder);
    Ok(())
}

fn say(what: &str, value: &str) {
    println!("{what:<58} {value:>14}");
}

fn rate(per_second: f64) -> String {
    format!("{per_second:.0}/s")
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
fn per_second(count: u64, from: Instant) -> f64 {
    count as f64 / from.elapsed().as_secs_f64()
}

/// What a log costs that commits each record alone: key, record and nothing else, durable.
fn single_commits() -> Result<f64, Anything> {
    let folder = paths::scratch("bench-single");
    let db = Connection::open(folder.path().join("a.db"))?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.execute_batch("CREATE TABLE r (id INTEGER PRIMARY KEY, key TEXT UNIQUE, body TEXT)")?;
    let begin = Instant::now();
    for n in 0..ONE_BY_ONE {
        let record = entry(n).record;
        let sql = "INSERT INTO r (key, body) VALUES (?1, ?2)";
        db.execute(sql, [record.key.to_string(), record.text()])?;
    }
    Ok(per_second(ONE_BY_ONE, begin))
}

async fn appends(folder: &Path, single: f64) -> Result<(), Anything> {
    let log = Log::open_local(
        &LogConfig::of(&folder.join("data")),
        &folder.join("sign"),
        "bench",
    )?;
    let mut times = Vec::new();
    let begin = Instant::now();
    for n in 0..ONE_BY_ONE {
        let one = Instant::now();
        log.append(entry(n)).await?;
        times.push(one.elapsed());
    }
    say(
        "appends, one after the other",
        &rate(per_second(ONE_BY_ONE, begin)),
    );
    say("  until the answer, p50 and p99", &spread(&mut times));

    let begin = Instant::now();
    let mut submitters = JoinSet::new();
    for submitter in 0..SUBMITTERS {
        let log = log.clone();
        submitters.spawn(async move {
            for n in (submitter..TOGETHER).step_by(EVERY) {
                log.append(entry(ONE_BY_ONE + n)).await?;
            }
            Ok::<(), hotcell::log::AppendError>(())
        });
    }
    while let Some(done) = submitters.join_next().await {
        done??;
    }
    let together = per_second(TOGETHER, begin);
    say(
        &format!("appends, {SUBMITTERS} submitters"),
        &rate(together),
    );
    say(
        "  over one commit per record",
        &format!("{:.1}", together / single),
    );

    let mut steady = JoinSet::new();
    let mut clock = tokio::time::interval(Duration::from_secs(1) / u32::try_from(RATE)?);
    for n in 0..RATE * STEADY_S {
        clock.tick().await;
        let (log, planned) = (log.clone(), Instant::now());
        steady.spawn(async move {
            let done = log.append(entry(ONE_BY_ONE + TOGETHER + n)).await;
            done.map(|_| planned.elapsed())
        });
    }
    let mut times = Vec::new();
    while let Some(done) = steady.join_next().await {
        times.push(done??);
    }
    say(
        &format!("at {RATE}/s: until the answer, p50 and p99"),
        &spread(&mut times),
    );
    Ok(())
}

fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    format!("{:.2} {:.2} ms", ms(at(50)), ms(at(99)))
}

/// A service that was never started yet, with a proxy that it will not ask.
fn place() -> Result<(Place, tempfile::TempDir), Anything> {
    let folder = paths::scratch("bench-serve");
    let place = Place::new(folder.path(), fake::shared());
    Ok((place, folder))
}

/// Start-up and lookups of one size; tells the lookups per second.
fn served(place: &Place, records: u64) -> Result<f64, Anything> {
    let begin = Instant::now();
    let service = place.serve(&[]);
    say(
        &format!("start of the service with {records} records, s"),
        &format!("{:.2}", begin.elapsed().as_secs_f64()),
    );
    let lookups = lookups(&service, &place.folder, records)?;
    say(
        &format!("lookups over HTTP at {records} records"),
        &rate(lookups),
    );
    drop(service);
    Ok(lookups)
}

/// wrk with keys of the whole log, in no order.
fn lookups(service: &Service, folder: &Path, records: u64) -> Result<f64, Anything> {
    let script: PathBuf = folder.join("keys.lua");
    let mut file = fs::File::create(&script)?;
    writeln!(
        file,
        "request = function()\n  local n = math.random(0, {})\n  return wrk.format('GET', \
         '/tlog/lookup/ex.example/grown' .. n .. '@v1.0.0/linux-amd64-go1.26.8/')\nend",
        records - 1
    )?;
    let url = service.url();
    let done = Run::new(Path::new("wrk"))
        .args(["-t1", "-c16", "-d8s", "-s"])
        .args([script.display().to_string(), url])
        .wait();
    let said = done.out();
    let line = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    let bad = said.lines().find(|line| line.contains("Non-2xx"));
    match (line, bad) {
        (Some(rate), None) => Ok(rate.trim().parse()?),
        _ => Err(format!("wrk: {said}").into()),
    }
}
