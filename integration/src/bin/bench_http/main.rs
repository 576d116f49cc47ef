//! The service over HTTP, in one run: downloads and pages against nginx with the same bytes, pages
//! while two builds run, streams that wait, and pages with few and with many results in the store.
//!
//! Called by `integration/bench http [RESULTS [PART]]`; needs wrk and nginx. Prints figures and
//! ratios, each the median of some rounds that take turns; asserts nothing.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]
#![expect(
    clippy::disallowed_methods,
    reason = "files of a benchmark need not survive a crash"
)]

mod load;
mod streams;

use std::{fs, path::Path};

use hotcell::log::LogConfig;
use hotcell_integration::{
    fake, grown, http, paths,
    service::{Place, Service, build_path},
};
use rusqlite::{Connection, params};
use sha2::{Digest as _, Sha256};

use load::{Load, Measured, Nginx, ask};

/// Results of the large store when no number is given.
const RESULTS: u64 = 1_000_000;
/// What can be measured alone.
const PARTS: [&str; 4] = ["nginx", "builds", "results", "streams"];
/// Results of the small one.
const FEW: u64 = 1_000;
/// Of each measurement; the median counts.
const ROUNDS: usize = 3;
/// Of each page of two stores: their times differ by less than two rounds of one do.
const TURNS: usize = 7;
/// The one that is downloaded.
const TEN: &str = "ex.example/ten";
const TEN_BYTES: usize = 10 << 20;
const PAGES: Load = Load {
    connections: 32,
    seconds: 4,
};
const DOWNLOADS: Load = Load {
    connections: 8,
    seconds: 4,
};
/// Enough to keep the service busy and short of its limit, so that times are its own.
const LATENCY: Load = Load {
    connections: 4,
    seconds: 3,
};

pub(crate) type Anything = Box<dyn std::error::Error>;

fn main() -> Result<(), Anything> {
    let results = std::env::args().nth(1).map(|text| text.parse());
    let results: u64 = results.transpose()?.unwrap_or(RESULTS);
    let part = std::env::args().nth(2);
    if let Some(unknown) = part.as_deref().filter(|part| !PARTS.contains(part)) {
        return Err(format!("there is no part `{unknown}` but {}", PARTS.join(", ")).into());
    }
    let is_asked = |one| part.as_deref().is_none_or(|part| part == one);
    let folder = paths::scratch("bench-http");
    let (home, nginx) = (folder.path().join("place"), folder.path().join("nginx"));
    fs::create_dir_all(&home)?;
    let place = Place::new(&home, fake::shared());
    if part.as_deref() == Some("streams") {
        return streams::wait(&place);
    }
    let place = place.stocked();
    drop(built(&place));
    let sum = add_ten(&place)?;
    add_results(&place, 0..FEW)?;

    let service = place.serve(&["--max-builds", "2"]);
    if is_asked("nginx") {
        against_nginx(&service, &nginx, &sum)?;
    }
    if is_asked("builds") {
        while_building(&service)?;
    }
    drop(service);
    if is_asked("results") {
        few_and_many(&place, folder.path(), results)?;
    }
    if is_asked("streams") {
        streams::wait(&place)?;
    }
    Ok(())
}

/// Times of pages with few and with many results, of two services in turns.
fn few_and_many(few: &Place, folder: &Path, results: u64) -> Result<(), Anything> {
    let home = folder.join("many");
    fs::create_dir_all(&home)?;
    let many = Place::new(&home, fake::shared()).stocked();
    drop(built(&many));
    add_results(&many, 0..results)?;
    let (few, many) = (few.serve(&[]), many.serve(&[]));
    for page in pages(&few)? {
        let (mut of_few, mut of_many) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            of_few.push(ask_any(&few, folder, &page, FEW)?);
            of_many.push(ask_any(&many, folder, &page, results)?);
        }
        let (of_few, of_many) = (median(&of_few, p99), median(&of_many, p99));
        say(
            &format!("p99 of {}: with {FEW} and with {results} results", page.0),
            &format!("{of_few:.2} {of_many:.2} ms"),
        );
        say("  ratio", &format!("{:.2}", of_many / of_few));
    }
    Ok(())
}

/// A service in this place, after its first build.
fn built(place: &Place) -> Service {
    let service = place.serve(&["--max-builds", "2"]);
    service.builds("ex.example/hello");
    service
}

pub(crate) fn say(what: &str, value: &str) {
    println!("{what:<66} {value:>18}");
}

/// Lays a file of random bytes where a binary would lie, and its result.
fn add_ten(place: &Place) -> Result<String, Anything> {
    let mut seed = [0; 32];
    let mut content = Vec::with_capacity(TEN_BYTES);
    while content.len() < TEN_BYTES {
        seed = Sha256::digest(seed).into();
        content.extend_from_slice(&seed);
    }
    let sha256: [u8; 32] = Sha256::digest(&content).into();
    let name = hotcell::spec::hex(&sha256);
    let folder = grown::data(place).join("artifacts").join(&name[..2]);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), &content)?;
    let sum = hotcell::spec::Sum::of(&sha256).to_string();
    let db = Connection::open(LogConfig::of(&grown::data(place)).database)?;
    db.execute(
        "INSERT INTO result (key, log_index, sum, sha256, size, built_ms, built, envelope)
         SELECT ?1, log_index, ?2, ?3, ?4, built_ms, built, envelope FROM result LIMIT 1",
        params![&build_path(TEN)[1..], sum, sha256, TEN_BYTES],
    )?;
    drop(db);
    grown::give_to_serve(place);
    Ok(sum)
}

/// Copies the first result under other names, as built months ago, because the log may grow by so
/// many in no day, and with an index of the log that is not theirs: pages do not look. Their
/// envelopes are left out, for no page has them.
fn add_results(place: &Place, range: std::ops::Range<u64>) -> Result<(), Anything> {
    let mut db = Connection::open(LogConfig::of(&grown::data(place)).database)?;
    let tx = db.transaction()?;
    let names = "WITH RECURSIVE n(n) AS
             (SELECT ?1 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < ?2)";
    tx.execute(
        &format!(
            "{names} INSERT INTO result
                 (key, log_index, sum, sha256, size, built_ms, built, envelope)
             SELECT 'ex.example/grown' || n || '@v1.0.0/linux-amd64-go1.26.8/', log_index, sum,
                 sha256, size, built_ms - 9000000000, built, x''
             FROM n, (SELECT * FROM result LIMIT 1)"
        ),
        params![range.start, range.end],
    )?;
    tx.execute(
        "INSERT OR IGNORE INTO package_line (path, key, sum, size, built_ms)
         SELECT substr(key, 1, instr(key, '@') - 1), key, sum, size, built_ms FROM result",
        [],
    )?;
    tx.execute(
        "INSERT OR IGNORE INTO package_word (word, path)
         SELECT substr(path, 12), path FROM package_line", // behind `ex.example/`
        [],
    )?;
    tx.commit()?;
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
    drop(db);
    grown::give_to_serve(place);
    Ok(())
}

/// Sum of the first result.
fn result_of(service: &Service, path: &str) -> Result<String, Anything> {
    let answer = http::get(&format!("{}{path}", service.url()));
    match answer.status {
        307 => Ok(answer.header("location").to_owned()),
        status => Err(format!("{path}: {status} {}", answer.text()).into()),
    }
}

/// The same bytes from us and from nginx, in turns.
fn against_nginx(service: &Service, folder: &Path, sum: &str) -> Result<(), Anything> {
    let nginx = Nginx::start(folder.to_owned())?;
    let result = result_of(service, &build_path("ex.example/grown7"))?;
    let ten = format!("{}{sum}/ten-v1.0.0-go1.26.8", build_path(TEN));
    for (what, path, load) in [
        ("downloads of 10 MiB", ten, DOWNLOADS),
        ("result pages", result.clone(), PAGES),
        ("records", format!("{result}record"), PAGES),
        ("tiles", "/tlog/tile/0/000.p/3".to_owned(), PAGES),
    ] {
        let url = format!("{}{path}", service.url());
        let answer = http::get(&url);
        if answer.status != 200 {
            return Err(format!("{url}: {}", answer.status).into());
        }
        let file = what.replace(' ', "-"); // it remembers what it has opened
        nginx.put(&file, &answer.body)?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(ask(load, &url, None)?);
            theirs.push(ask(load, &nginx.url(&file), None)?);
        }
        say(&format!("{what}, ours"), &told(&ours));
        say("  nginx with the same bytes", &told(&theirs));
        let ratio = median(&ours, rate) / median(&theirs, rate);
        say("  ratio", &format!("{ratio:.2}"));
    }
    Ok(())
}

/// Pages beside two builds that run all the while.
fn while_building(service: &Service) -> Result<(), Anything> {
    let result = result_of(service, &build_path("ex.example/grown7"))?;
    let builds = ["ex.example/big", "ex.example/big2"];
    for module in builds {
        let url = format!("{}{}", service.url(), build_path(module));
        let own = [("sec-fetch-site", "same-origin")];
        if http::post_with(&url, "", &own).status != 303 {
            return Err(format!("{module} is not built").into());
        }
    }
    let mut beside = Vec::new();
    for _ in 0..ROUNDS {
        beside.push(ask(PAGES, &format!("{}{result}", service.url()), None)?);
    }
    let page = |module| http::get(&format!("{}{}", service.url(), build_path(module)));
    let running = builds.iter().filter(|module| page(module).status == 200);
    say("result pages beside two builds", &told(&beside));
    say("  of which ran until the end", &running.count().to_string());
    say(
        "  p99 of each round",
        &format!("{:.1?} ms", beside.iter().map(p99).collect::<Vec<_>>()),
    );
    Ok(())
}

/// Title, and what stands before and behind the number of a result.
type Page = (&'static str, String, String);

/// What every store is asked for.
fn pages(service: &Service) -> Result<[Page; 5], Anything> {
    let result = result_of(service, &build_path("ex.example/grown7"))?;
    let (_, behind) = result.split_once("grown7").ok_or("another address")?;
    let grown = "/ex.example/grown".to_owned();
    Ok([
        ("home", "/?".to_owned(), String::new()),
        ("a result", grown.clone(), behind.to_owned()),
        ("a record", grown, format!("{behind}record")),
        ("a search", "/-/search?q=grown".to_owned(), String::new()),
        ("the instance", "/-/instance?".to_owned(), String::new()),
    ])
}

/// Asks for the page of results in no order.
fn ask_any(
    service: &Service,
    folder: &Path,
    (_, before, behind): &Page,
    results: u64,
) -> Result<Measured, Anything> {
    let script = folder.join("page.lua");
    let text = format!(
        "request = function()\n  local n = math.random(0, {})\n  \
         return wrk.format('GET', '{before}' .. n .. '{behind}')\nend\n",
        results - 1
    );
    fs::write(&script, text)?;
    ask(LATENCY, &service.url(), Some(&script))
}

fn rate(one: &Measured) -> f64 {
    one.rate
}

fn p99(one: &Measured) -> f64 {
    one.p99_ms
}

fn median(all: &[Measured], of: fn(&Measured) -> f64) -> f64 {
    let mut all: Vec<_> = all.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn told(all: &[Measured]) -> String {
    format!("{:.0}/s {:.1} ms", median(all, rate), median(all, p99))
}
