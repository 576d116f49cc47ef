//! Every kind of page can be read and used by everybody: axe-core finds nothing serious, nothing is
//! wider than a small screen. Pictures are kept beside the caches of the tests, in light and dark.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hotcell_integration::{
    browser::Browser,
    command::Run,
    host, http, paths, sdk,
    service::{self, Service, build_path},
    tools,
};
use serde_json::Value;

/// Release of axe-core, and SHA-256 of its script.
const AXE: (&str, &str) = (
    "4.10.3",
    "880970c081707360e64f34cea25ff91892f5bc95675b0776925b9709dd8a68bb",
);
/// The narrowest screen that people have, and an ordinary one, in CSS pixels.
const WIDTHS: [u32; 2] = [360, 1_000];

/// The script, fetched once; nothing where it cannot be.
fn axe() -> Option<String> {
    let folder = paths::cache().join(format!("axe-{}", AXE.0));
    let file = folder.join("package/axe.min.js");
    if !file.is_file() {
        fs::create_dir_all(&folder).expect("the cache can be written");
        let pack = Run::new("npm")
            .args(["pack", "--silent", &format!("axe-core@{}", AXE.0)])
            .folder(&folder);
        let archive = format!("axe-core-{}.tgz", AXE.0);
        let unpack = Run::new("tar")
            .args(["xf", &archive, "package/axe.min.js"])
            .folder(&folder);
        if !tools::fetched("axe-core", &[pack, unpack]) {
            return None;
        }
    }
    assert_eq!(host::sha256(&file), AXE.1, "another axe-core was fetched");
    Some(fs::read_to_string(&file).expect("it is there"))
}

/// What axe-core finds on the page that is open: rule, impact, and where.
fn findings(browser: &Browser, axe: &str) -> Vec<String> {
    browser.script(axe);
    let found = browser.script_later(
        "const done = arguments[arguments.length - 1];\
         axe.run(document, { resultTypes: ['violations'] }).then(r => done(r.violations.flatMap(\
         v => v.nodes.map(n => v.impact + ' ' + v.id + ' ' + n.html))), e => done([String(e)]))",
    );
    let found = found.as_array().expect("a list").iter();
    found
        .map(|line| line.as_str().unwrap_or_default().to_owned())
        .collect()
}

fn pictures() -> PathBuf {
    let folder = paths::cache().join("pictures");
    fs::create_dir_all(&folder).expect("the cache can be written");
    folder
}

/// The operator's page; the service says where that is when it starts.
fn admin_url(service: &Service) -> String {
    let trace = service.trace();
    let told = trace.split("the operator's page is ").last();
    let url = told.and_then(|told| told.split_whitespace().next());
    url.expect("it says its address").to_owned()
}

/// One page, at all widths, in light and dark.
fn check(browser: &Browser, axe: Option<&str>, pictures: &Path, name: &str, url: &str) {
    for width in WIDTHS {
        for scheme in ["light", "dark"] {
            browser.look(width, scheme);
            browser.open(url);
            let what = format!("{name} at {width} in {scheme}");
            let wide = browser.script("return document.documentElement.scrollWidth");
            assert!(wide.as_u64() <= Some(width.into()), "{what}: {wide} wide");
            let paper = browser.script("return getComputedStyle(document.body).backgroundColor");
            let is_light = paper
                .as_str()
                .is_some_and(|text| text.starts_with("rgb(251,"));
            assert_eq!(is_light, scheme == "light", "{what}: {paper}");
            let headings = browser.script("return document.querySelectorAll('h1').length");
            assert_eq!(headings, Value::from(1), "{what}");
            let found = axe.map_or_else(Vec::new, |axe| findings(browser, axe));
            assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
            browser.picture(&pictures.join(format!("{name}-{width}-{scheme}.png")));
        }
    }
}

#[test]
fn every_page_can_be_used_by_everybody() {
    let service = service::service();
    let url = service.url();
    let record = |path: &str| http::get(&format!("{url}{path}record"));
    let hello = build_path("ex.example/hello");
    let stripped = format!("{}-stripped/", hello.trim_end_matches('/'));
    let failed = build_path("ex.example/syntax");
    let licensed = build_path("ex.example/licensed");
    assert_eq!(record(&hello).status, 200);
    assert_eq!(record(&stripped).status, 200);
    assert_eq!(record(&licensed).status, 200);
    assert_eq!(record(&failed).status, 404);
    let own = [("sec-fetch-site", "same-origin")];
    let listed = http::post_with(&format!("{url}/ex.example/various@v1.0.0"), "", &own);
    assert_eq!(listed.status, 303);
    let compare = format!(
        "/-/compare?a={}&b={}",
        hello.trim_start_matches('/'),
        stripped.trim_start_matches('/')
    );
    let unbuilt = format!("/ex.example/hello@v1.0.0/freebsd-riscv64-{}/", sdk::GO);
    let downloads = paths::scratch("downloads");
    let (browser, axe, pictures) = (Browser::start(downloads.path()), axe(), pictures());
    let axe = axe.as_deref();
    for (name, path) in [
        ("home", "/"),
        ("module", "/ex.example/various"),
        ("result", &hello),
        ("failure", &failed),
        ("search", "/-/search?q=hello"),
        ("failures", "/-/failures"),
        ("compare", &compare),
        ("instance", "/-/instance"),
        ("withdrawn", "/-/withdrawn"),
        ("refusal", "/wp-admin/setup.php"),
        ("modules", &licensed),
    ] {
        check(&browser, axe, &pictures, name, &format!("{url}{path}"));
    }
    check(&browser, axe, &pictures, "admin", &admin_url(service));
    // The script of these pages would start something, which is not what is looked at.
    browser.refuse("*/static/hotcell.js");
    for (name, path) in [("build", &*unbuilt), ("unlisted", "/ex.example/tidy")] {
        check(&browser, axe, &pictures, name, &format!("{url}{path}"));
    }
}
