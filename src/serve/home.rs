//! Pages that lead to builds: the form, modules, packages without a target.

use std::sync::Arc;

use axum::{
    Extension, Form,
    extract::{
        Query, State,
        rejection::{FormRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode, header::USER_AGENT},
    response::Response,
};
use serde::Deserialize;

use super::{
    agent, answer,
    answer::{NO_STORE, Refusal},
    app::App,
    bodies,
    commands::Listed,
    guard,
    ledger::Health,
    limits::{Asker, blocks::Visitor},
    pages::{self, Commands, HomePage, Line, ModulePage},
};
use crate::{
    build::{Versions, ending},
    spec::{
        BuildKey, GoQuery, GoVersion, ModulePath, ModuleVersion, PackageDir, PackageQuery,
        SpecError, Target, Variant, VersionQuery, paste, url,
    },
};

/// Lines of "recent builds".
const RECENT: u32 = 20;
/// Characters of a wrong spec that are shown again: the longest right one fits.
const TYPED_MAX: usize = BuildKey::LEN_MAX;
/// Longest Go version that is looked at; the longest real one is `go1.26.latest`.
const GO_LEN_MAX: usize = 32;

/// What the form sends.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    spec: String,
    #[serde(default)]
    target: String,
    #[serde(default)]
    go: String,
    #[serde(default)]
    stripped: String,
}

/// What the form of gobuild's home page sends.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Linked {
    #[serde(default)]
    m: String,
}

/// `GET /`; `/?m=<module>` leads to its page.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    linked: Result<Query<Linked>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let typed = linked.map(|Query(linked)| linked.m).unwrap_or_default();
    let meant = paste::meant(&typed);
    if let Some((path, _)) = paste::build(&typed) {
        return Ok(answer::moved(&format!("/{path}")));
    }
    if meant.is_empty() {
        return home(&app, blank_form(&headers, meant), None).await;
    }
    match url::Path::parse(&meant) {
        Ok(_) => Ok(answer::moved(&format!("/{meant}"))),
        Err(error) => mend(&app, &headers, typed_form(&headers, &typed), error.into()).await,
    }
}

/// `POST /`: resolves what was typed, starts the build and goes to its page.
pub(super) async fn submit(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    _: guard::SameOrigin,
    headers: HeaderMap,
    asked: Result<Form<Asked>, FormRejection>,
) -> Result<Response, Refusal> {
    let Form(asked) = asked.map_err(|cause| {
        if cause.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return bodies::too_large();
        }
        let remedy = "use the form of the home page";
        Refusal::new(
            StatusCode::BAD_REQUEST,
            "bad_form",
            "the form cannot be read",
            remedy,
        )
    })?;
    match start(&app, visitor, &headers, &asked).await {
        Ok(key) => Ok(answer::redirect(
            StatusCode::SEE_OTHER,
            &url::build_path(&key),
            NO_STORE,
        )),
        Err(refusal) => {
            let mut form = typed_form(&headers, &asked.spec);
            form.go = asked.go.chars().take(GO_LEN_MAX).collect();
            form.stripped = !asked.stripped.is_empty();
            if let Ok(target) = Target::parse(&asked.target) {
                form.targets = pages::choices(target);
            }
            mend(&app, &headers, form, refusal).await
        }
    }
}

/// For people a refusal stands above the form, with what they typed, so that it can be mended.
async fn mend(
    app: &App,
    headers: &HeaderMap,
    form: pages::Form,
    refusal: Refusal,
) -> Result<Response, Refusal> {
    if answer::Accept::of(headers) != answer::Accept::Html {
        return Err(refusal);
    }
    let problem = format!("{}: {}", refusal.sentence, refusal.remedy);
    Ok(refusal.on(home(app, form, Some(problem)).await?))
}

async fn start(
    app: &App,
    visitor: Visitor,
    headers: &HeaderMap,
    asked: &Asked,
) -> Result<BuildKey, Refusal> {
    let query = PackageQuery::parse(&paste::meant(&asked.spec))?;
    let (mut target, mut go) = (asked.target.clone(), asked.go.clone());
    let mut variant = if asked.stripped.is_empty() {
        Variant::Plain
    } else {
        Variant::Stripped
    };
    // A pasted page of a build says what the form still says as it was shown.
    if let Some((_, page)) = paste::build(&asked.spec) {
        if target.trim().is_empty() || Target::parse(&target) == Ok(guess(headers)) {
            target = pages::slashed(page.target);
        }
        if go.trim().is_empty() {
            go = page.go.to_string();
        }
        if page.variant == Variant::Stripped {
            variant = page.variant;
        }
    }
    let key = resolve(app, visitor, query, &target, &go, variant).await?;
    app.queue.ask(&key, false, Asker::person(visitor)).await?;
    Ok(key)
}

/// The build that is asked for, with every name made concrete; an empty target is this machine's,
/// an empty Go release the newest.
pub(super) async fn resolve(
    app: &App,
    visitor: Visitor,
    query: PackageQuery,
    target: &str,
    go: &str,
    variant: Variant,
) -> Result<BuildKey, Refusal> {
    let target = match target.trim() {
        "" => Target::HOST,
        text => Target::parse(text)?,
    };
    let go = parse_go(go.trim())?;
    check_go(go)?;
    // First, so that nobody is asked anything for a module that is not built here.
    let resolved = app.resolve(visitor, query).await?;
    let go = app.resolve_go(visitor, go).await?;
    Ok(BuildKey {
        module: resolved.module,
        dir: resolved.dir,
        target,
        go,
        variant,
    })
}

/// No build has a release that may not stand in a log.
fn check_go(go: GoQuery) -> Result<(), Refusal> {
    let oldest = GoVersion::OLDEST_LOGGED;
    let is_old = match go {
        GoQuery::Latest => false,
        GoQuery::Line(minor) => minor < oldest.minor(),
        GoQuery::Exact(go) => go < oldest,
    };
    if !is_old {
        return Ok(());
    }
    let failure = ending::go_too_old(go);
    Err(Refusal::new(
        StatusCode::BAD_REQUEST,
        &failure.code,
        &failure.sentence,
        &failure.remedy,
    ))
}

/// `latest` and nothing are the same; the `go` in front may be left out.
fn parse_go(text: &str) -> Result<GoQuery, SpecError> {
    match text {
        "" => Ok(GoQuery::Latest),
        text if text.starts_with(|c: char| c.is_ascii_digit()) && text.len() <= GO_LEN_MAX => {
            GoQuery::parse(&format!("go{text}"))
        }
        text => GoQuery::parse(text),
    }
}

async fn home(app: &App, form: pages::Form, problem: Option<String>) -> Result<Response, Refusal> {
    let now_ms = app.clock.now_ms();
    let recent = app.catalogue.recent(None, RECENT);
    let mismatches = app.catalogue.mismatches();
    let fenced = match app.ledger.health() {
        Health::Live => None,
        Health::Fenced { why, .. } => Some(why),
    };
    let recent = recent.map_err(|cause| Refusal::internal(&cause))?;
    let page = HomePage {
        form,
        problem,
        recent: recent
            .iter()
            .map(|recent| Line::of(recent, now_ms))
            .collect(),
        verifier_key: app.ledger.verifier_key(),
        waiting: app.queue.waiting(),
        running: app.queue.running(),
        builds_max: app.builds_max,
        notes: app.notes(),
        fenced,
        mismatches: mismatches.map_err(|cause| Refusal::internal(&cause))?,
    };
    Ok(answer::page(&page))
}

/// `GET /<module>` and `GET /<module>@<version>`: to its only command, when it has no other.
pub(super) async fn module(
    app: &App,
    visitor: Visitor,
    headers: &HeaderMap,
    module: ModulePath,
    query: Option<VersionQuery>,
) -> Result<Response, Refusal> {
    let asked = match &query {
        None => None,
        Some(query) => match query.exact() {
            Some(version) => Some(ModuleVersion::new(module.clone(), version)?),
            None => {
                let found = app.resolve(visitor, of_module(&module, query)).await?;
                return Ok(answer::moved(&format!("/{}", found.module)));
            }
        },
    };
    let mut listed = listed(app, asked.as_ref())?;
    if let (Some(asked), Some(Ok(commands))) = (&asked, &listed)
        && let [only] = &commands[..]
    {
        let to = pages::command_page(asked, &only.dir, guess(headers));
        return Ok(answer::moved(&to));
    }
    let versions = versions(app, visitor, &module, query).await?;
    let mut shown = asked.clone();
    if let (None, Some(newest)) = (&shown, versions.versions.first()) {
        shown = ModuleVersion::parse(module.as_str(), newest).ok();
        listed = self::listed(app, shown.as_ref())?;
    }
    let now_ms = app.clock.now_ms();
    let built = app.catalogue.recent(Some(&module), RECENT);
    let built = built.map_err(|cause| Refusal::internal(&cause))?;
    let built = built.iter().map(|recent| Line::of(recent, now_ms));
    let spec = match &asked {
        Some(asked) => format!("{asked}/"),
        None => format!("{module}@latest/"),
    };
    let mut page = ModulePage::new(module, asked, &versions);
    page.commands = shown.map(|shown| Commands::of(&shown, listed, guess(headers)));
    page.form = blank_form(headers, spec);
    page.built = built.collect();
    Ok(answer::page(&page))
}

fn listed(app: &App, module: Option<&ModuleVersion>) -> Result<Option<Listed>, Refusal> {
    let Some(module) = module else {
        return Ok(None);
    };
    let listed = app.catalogue.listed(module.to_string());
    listed.map_err(|cause| Refusal::internal(&cause))
}

/// Versions of a module. Some module proxies give a version and not the list; then it is all that
/// is known.
async fn versions(
    app: &App,
    visitor: Visitor,
    module: &ModulePath,
    query: Option<VersionQuery>,
) -> Result<Versions, Refusal> {
    let refusal = match app.versions(visitor, module.clone()).await {
        Err(refusal) if refusal.status == StatusCode::NOT_FOUND => refusal,
        other => return other,
    };
    let query = match query {
        Some(query) => query,
        None => VersionQuery::parse("latest")?,
    };
    match app.resolve(visitor, of_module(module, &query)).await {
        Ok(found) => Ok(Versions {
            versions: vec![found.module.version.to_string()],
            warnings: found.warnings,
        }),
        Err(_) => Err(refusal),
    }
}

/// `POST /<module>@<version>`: lists its commands, then goes to its page.
pub(super) async fn list(
    app: &App,
    visitor: Visitor,
    module: ModulePath,
    query: VersionQuery,
) -> Result<Response, Refusal> {
    let module = match query.exact() {
        Some(version) => ModuleVersion::new(module, version)?,
        None => {
            app.resolve(visitor, of_module(&module, &query))
                .await?
                .module
        }
    };
    app.list(visitor, &module).await?;
    let to = format!("/{module}");
    Ok(answer::redirect(StatusCode::SEE_OTHER, &to, NO_STORE))
}

fn of_module(module: &ModulePath, query: &VersionQuery) -> PackageQuery {
    PackageQuery {
        package: module.to_string(),
        module: Some(module.clone()),
        query: query.clone(),
    }
}

/// `GET /<module>@<version>/<package>`: to the build for the visitor's machine, newest Go.
pub(super) async fn package(
    app: &App,
    visitor: Visitor,
    headers: &HeaderMap,
    module: ModulePath,
    query: VersionQuery,
    dir: PackageDir,
) -> Result<Response, Refusal> {
    let build = url::BuildQuery {
        module,
        query,
        dir,
        target: guess(headers),
        go: GoQuery::Latest,
        variant: Variant::Plain,
    };
    let key = app.concrete(visitor, &build).await?;
    Ok(answer::moved(&url::build_path(&key)))
}

/// With what was typed, as far as anybody types.
fn typed_form(headers: &HeaderMap, typed: &str) -> pages::Form {
    blank_form(headers, typed.chars().take(TYPED_MAX).collect())
}

fn blank_form(headers: &HeaderMap, spec: String) -> pages::Form {
    let targets = pages::choices(guess(headers));
    pages::Form {
        spec,
        go: String::new(),
        stripped: false,
        targets,
    }
}

fn guess(headers: &HeaderMap) -> Target {
    let agent = headers
        .get(USER_AGENT)
        .and_then(|agent| agent.to_str().ok());
    agent::target(agent.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_versions_are_taken_as_people_write_them() {
        for (text, wanted) in [
            ("", "latest"),
            ("latest", "latest"),
            ("go1.26.8", "go1.26.8"),
            ("1.26.8", "go1.26.8"),
            ("1.26.latest", "go1.26.latest"),
        ] {
            assert_eq!(parse_go(text).unwrap().to_string(), wanted);
        }
        for text in ["go1.26", "1.99", "x", &"1".repeat(10_000)] {
            assert!(parse_go(text).is_err(), "{text}");
        }
    }
}
