//! The page of a result: what was built, how to get it, what it is made from, what held its cell.
//!
//! As in [`super::pages`]: every text escaped by its type, every link made of parsed names. It
//! reads a few rows by their keys and asks nobody; it is what most visitors look at.

use std::sync::Arc;

use askama::Template;
use axum::{
    body::Bytes,
    http::{
        HeaderMap,
        header::{CONTENT_TYPE, HOST},
    },
    response::{IntoResponse as _, Response},
};

use super::{
    answer::Refusal,
    app::App,
    artifacts::Opened,
    build_pages::{Cell, Head},
    catalogue::{Recent, ResultRow},
    code::Measured,
    limits::withdrawn::Withdrawn,
    lists,
    pages::{clean, clean_all, slashed},
    shown::Version,
    targets::{self, Group},
    words,
};
use crate::{
    fetch::wire::{Licences, ModuleHash},
    output::Html,
    spec::{BuildKey, Record, Sum, Variant, hex, url},
};

/// Newest results of a module among which a page looks for others of its package.
const OTHERS: u32 = 20;

/// A module of the build.
struct Module {
    path: String,
    version: String,
    h1: String,
    /// Bytes of its code, as people read them.
    code: String,
    licences: String,
}

/// Code of a package.
struct Package {
    path: String,
    code: String,
}

/// Code of the binary.
struct Code {
    bytes: String,
    standard_library: String,
    other: String,
    largest: Vec<Package>,
    /// How many are not listed.
    more: usize,
}

/// `/<module>@<version>/…/<sum>/`
#[derive(Template)]
#[template(path = "result.html")]
struct ResultPage {
    head: Head,
    sum: String,
    sha256: String,
    size: String,
    bytes: u64,
    gzip: Option<String>,
    log_index: u64,
    record: String,
    file: String,
    built: String,
    warnings: Vec<String>,
    /// Modules that were compiled, and those of which only the go.mod was read.
    modules: Vec<Module>,
    read: Vec<Module>,
    /// Whether the licences of any are known.
    has_licences: bool,
    code: Option<Code>,
    sdk_h1: String,
    cell: Cell,
    timings: Vec<(&'static str, String)>,
    has_output: bool,
    output: Html,
    get: String,
    withdrawn: Option<Withdrawn>,
    other_variant: String,
    targets: Vec<Group>,
    /// Verifiers with the same bits.
    agreed: Vec<String>,
    key: String,
    /// Other results of the package.
    others: Vec<lists::Choice>,
}

/// What the page says beside the row itself.
struct Beside {
    gzip: Option<Opened>,
    /// Newest results of the module.
    recent: Vec<Recent>,
    code: Option<Measured>,
    /// Of each module that was compiled.
    licences: Vec<Option<Arc<Licences>>>,
    built_for: targets::Built,
    agreed: Vec<String>,
    verifier_key: String,
    /// Where the visitor sees us: scheme, host and port.
    origin: String,
    withdrawn: Option<Withdrawn>,
}

/// What a page of a result depends on as of now, and the compressed binary.
fn version(
    app: &App,
    headers: &HeaderMap,
    key: &BuildKey,
    sha256: &[u8; 32],
) -> Result<(Version, Option<Opened>), Refusal> {
    let database = app.catalogue.version();
    let gzip = app.artifacts.compressed(sha256);
    let gzip = gzip.map_err(|cause| Refusal::internal(&cause))?;
    let version = Version {
        origin: origin(app, headers),
        sha256: *sha256,
        database: database.map_err(|cause| Refusal::internal(&cause))?,
        licences: app.catalogue.licences.learned(),
        gzip: gzip.as_ref().map(|gzip| gzip.bytes),
        withdrawn: app.rates.withdrawn(key),
    };
    Ok((version, gzip))
}

fn html(page: Bytes) -> Response {
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

/// Where the visitor sees us: scheme, host and port.
fn origin(app: &App, headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let scheme = if app.behind_tls { "https" } else { "http" };
    format!("{scheme}://{}", host.unwrap_or("localhost"))
}

/// The page as it was made for somebody else, while nothing has changed since.
pub(super) fn again(
    app: &App,
    headers: &HeaderMap,
    key: &BuildKey,
    sum: Sum,
) -> Result<Option<Response>, Refusal> {
    let Some((made, page)) = app.shown.get(&key.to_string()) else {
        return Ok(None);
    };
    if Sum::of(&made.sha256) != sum || app.queue.is_underway(key) {
        return Ok(None);
    }
    let (now, _) = version(app, headers, key, &made.sha256)?;
    Ok((now == made).then(|| html(page)))
}

/// Makes the page of a result, for whoever else wants it, too. A row never changes; all else is
/// read after the version, so that what changes meanwhile makes the page old.
pub(super) fn show(app: &App, headers: &HeaderMap, row: &ResultRow) -> Result<Response, Refusal> {
    let (version, gzip) = version(app, headers, &row.key, &row.sha256)?;
    let recent = app.catalogue.recent(Some(&row.key.module.path), OTHERS);
    let code = app.catalogue.code(&row.key);
    let linked = row
        .built
        .modules
        .iter()
        .filter(|module| module.h1.is_some());
    let licences = app.catalogue.licences_of(linked);
    let built_for = app.catalogue.built_for(&row.key);
    let agreed = app.catalogue.agreed(&row.key);
    let beside = Beside {
        gzip,
        recent: recent.map_err(|cause| Refusal::internal(&cause))?,
        code: code.map_err(|cause| Refusal::internal(&cause))?,
        licences: licences.map_err(|cause| Refusal::internal(&cause))?,
        built_for: built_for.map_err(|cause| Refusal::internal(&cause))?,
        agreed: agreed.map_err(|cause| Refusal::internal(&cause))?,
        verifier_key: app.ledger.verifier_key(),
        origin: version.origin.clone(),
        withdrawn: version.withdrawn.clone(),
    };
    let page = ResultPage::new(row, beside).render();
    let page = Bytes::from(page.map_err(|cause| Refusal::internal(&cause))?);
    app.shown.keep(row.key.to_string(), version, page.clone());
    Ok(html(page))
}

impl ResultPage {
    fn new(row: &ResultRow, beside: Beside) -> Self {
        let (key, built, sum) = (&row.key, &row.built, row.sum());
        let record = Record {
            key: key.clone(),
            size: row.size,
            sum,
        };
        let mut other = key.clone();
        other.variant = match key.variant {
            Variant::Plain => Variant::Stripped,
            Variant::Stripped => Variant::Plain,
        };
        let code = beside.code.as_ref();
        let mut licences = beside.licences.iter().map(Option::as_deref);
        let mut modules = Vec::new();
        let mut read = Vec::new();
        for module in &built.modules {
            match module.h1 {
                Some(_) => modules.push(Module::of(module, code, licences.next().flatten())),
                None => read.push(Module::of(module, None, None)),
            }
        }
        let timings = built.timings_ms.iter();
        let others = beside.recent.iter();
        let others = others.filter(|one| one.key != *key && one.key.package() == key.package());
        Self {
            head: Head::of(key),
            sum: sum.to_string(),
            sha256: hex(&row.sha256),
            size: words::size(row.size),
            bytes: row.size,
            gzip: beside.gzip.map(|gzip| words::size(gzip.bytes)),
            log_index: row.log_index,
            record: record.text().trim_end_matches('\n').to_owned(),
            file: key.download_name(),
            built: words::time(row.built_ms),
            warnings: clean_all(&built.warnings),
            has_licences: beside.licences.iter().any(Option::is_some),
            modules,
            read,
            code: beside.code.as_ref().map(Code::of),
            sdk_h1: clean(&built.sdk_h1),
            cell: Cell::of(&built.cell),
            timings: timings
                .map(|(p, ms)| (words::phase_name(*p), words::duration(*ms)))
                .collect(),
            has_output: !built.output.is_empty(),
            output: built.output.html(),
            get: get_command(key, &beside.verifier_key, &beside.origin),
            withdrawn: beside.withdrawn,
            other_variant: url::build_path(&other),
            targets: targets::of_build(key, &beside.built_for),
            agreed: clean_all(&beside.agreed),
            key: key.to_string(),
            others: others.map(lists::Choice::of).collect(),
        }
    }
}

impl Module {
    fn of(module: &ModuleHash, code: Option<&Measured>, found: Option<&Licences>) -> Self {
        let h1 = module.h1.as_ref().or(module.go_mod_h1.as_ref());
        let bytes = code.map(|(sums, _)| sums.modules.get(&module.path).copied());
        Self {
            path: clean(&module.path),
            version: clean(&module.version),
            h1: clean(h1.map_or("", |h1| h1)),
            code: bytes.map_or(String::new(), |bytes| words::size(bytes.unwrap_or(0))),
            licences: words::licences(found),
        }
    }
}

impl Code {
    fn of((sums, largest): &Measured) -> Self {
        let package = |package: &crate::build::PackageCode| Package {
            path: package.path.as_str().to_owned(),
            code: words::size(package.bytes),
        };
        Self {
            bytes: words::size(sums.bytes()),
            standard_library: words::size(sums.standard_library),
            other: words::size(sums.other),
            more: sums.packages.saturating_sub(largest.len()),
            largest: largest.iter().map(package).collect(),
        }
    }
}

/// The command that fetches and verifies all of it. Every part is of a grammar without quotes.
fn get_command(key: &BuildKey, verifier_key: &str, origin: &str) -> String {
    let dir = if key.dir.is_root() {
        String::new()
    } else {
        format!("/{}", key.dir)
    };
    let stripped = if key.variant == Variant::Stripped {
        " --stripped"
    } else {
        ""
    };
    let (module, target, go) = (&key.module, slashed(key.target), key.go);
    format!(
        "hotcell get {module}{dir} --target {target} --go {go}{stripped} \\\n  \
         --url {origin}/tlog \\\n  --verifierkey {verifier_key}"
    )
}
