//! The page in a real browser: what a person does, and what a page of somebody else tries.

use std::{fs, path::Path, time::Duration};

use hotcell_integration::{
    browser::{Browser, other_origin},
    fake, host, http, paths, sdk,
    service::{self, build_path},
};

/// Longest build that a page is watched for.
const BUILD_MAX: Duration = Duration::from_mins(4);

/// Waits until a download is whole and returns its SHA-256.
fn downloaded(folder: &Path) -> Option<String> {
    host::wait_for(Duration::from_secs(30), || {
        let entries = fs::read_dir(folder).ok()?.flatten();
        let files: Vec<_> = entries.map(|entry| entry.path()).collect();
        let whole = |path: &&std::path::PathBuf| {
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            name.is_some_and(|name| !name.ends_with(".crdownload") && !name.starts_with('.'))
        };
        (files.len() == 1).then(|| files.iter().find(whole).map(|path| host::sha256(path)))?
    })
}

#[test]
fn a_person_submits_watches_downloads_and_gets_the_bits_of_everybody_else() {
    let service = service::service();
    let downloads = paths::scratch("downloads");
    let browser = Browser::start(downloads.path());
    browser.open(&service.url());
    browser.fill("#spec", "ex.example/many22@v1.0.0");
    browser.fill("#go", sdk::GO);
    browser.click("form.ask button[type=submit]");
    browser.wait_until(
        "the build page or the result",
        Duration::from_secs(30),
        |browser| browser.url().contains("/ex.example/many22@v1.0.0/"),
    );
    browser.wait_until("the result", BUILD_MAX, |browser| {
        browser.script("return document.querySelector('.downloads a') !== null") == true
    });
    let told = browser.script("return document.querySelector('code.hash').textContent");
    let told = told.as_str().expect("the page shows the hash").to_owned();
    browser.click(".downloads a");
    let sha256 = downloaded(downloads.path()).expect("one whole file arrives");
    assert_eq!(sha256, told, "what was promised is what arrived");
    let folder = paths::scratch("browser");
    let built = crate::support::build("ex.example/many22@v1.0.0", &folder.path().join("b"), &[]);
    assert_eq!(built.json()["sha256"], sha256, "one binary for everybody");
    // The log shows it, one click away.
    browser.click("a[href^='/tlog/lookup/']");
    browser.wait_until("the record", Duration::from_secs(30), |browser| {
        browser
            .text()
            .contains("ex.example/many22 v1.0.0 / linux amd64")
    });
}

#[test]
fn a_person_without_scripts_gets_to_the_result_and_its_binary() {
    let service = service::service();
    let downloads = paths::scratch("downloads");
    let browser = Browser::start(downloads.path());
    browser.without_scripts();
    browser.open(&service.url());
    browser.fill("#spec", "ex.example/big3@v1.0.0");
    browser.fill("#go", sdk::GO);
    browser.click("form.ask button[type=submit]");
    browser.wait_until("the build page", Duration::from_secs(30), |browser| {
        browser.url().contains("/ex.example/big3@v1.0.0/")
    });
    if browser.source().contains("Build it") {
        browser.click("form.before button[type=submit]");
    }
    let mut reloads = false;
    let arrived = host::wait_for(BUILD_MAX, || {
        let source = browser.source();
        reloads |= source.contains("http-equiv=\"refresh\"");
        source.contains("class=\"downloads\"").then_some(())
    });
    assert!(arrived.is_some(), "{}\n{}", browser.url(), browser.source());
    assert!(reloads, "the page reloaded by itself while it was built");
    browser.click(".downloads a");
    let sha256 = downloaded(downloads.path()).expect("one whole file arrives");
    assert!(browser.source().contains(&sha256), "what was promised");
}

#[test]
fn a_page_that_is_watched_reaches_the_result_over_a_restart_of_the_service() {
    let folder = paths::scratch("browser-restart");
    let place = service::Place::new(folder.path(), fake::shared()).stocked();
    let mut service = place.serve(&[]);
    service.builds("ex.example/hello");
    let browser = Browser::start(folder.path());
    browser.open(&format!(
        "{}{}",
        service.url(),
        build_path("ex.example/big")
    ));
    browser.wait_until("the build step", BUILD_MAX, |browser| {
        browser.script(
            "const s = document.querySelector(\"[data-phase=build]\");\
             return s !== null && s.dataset.state === 'now'",
        ) == true
    });
    let address = service.address().to_string();
    assert_eq!(service.stop(), 0, "an orderly end");
    service = place.serve_at(&address, &[]);
    browser.wait_until("the result", BUILD_MAX, |browser| {
        browser.script("return document.querySelector('.downloads a') !== null") == true
    });
    assert!(service.lives());
}

#[test]
fn progress_is_shown_while_it_builds() {
    let service = service::service();
    let downloads = paths::scratch("downloads");
    let browser = Browser::start(downloads.path());
    let page = format!("{}{}", service.url(), build_path("ex.example/big"));
    browser.open(&page);
    assert!(browser.text().contains("Build it") || browser.text().contains("Progress"));
    browser.wait_until("the build step", BUILD_MAX, |browser| {
        browser.script(
            "const s = document.querySelector(\"[data-phase=build]\");\
             return s !== null && s.dataset.state === 'now'",
        ) == true
    });
    browser.wait_until("the result", BUILD_MAX, |browser| {
        browser.script("return document.querySelector('.downloads a') !== null") == true
    });
}

#[test]
fn a_page_with_hostile_compiler_output_runs_nothing() {
    let service = service::service();
    let downloads = paths::scratch("downloads");
    let browser = Browser::start(downloads.path());
    let path = build_path("ex.example/hostile3");
    browser.open(&format!("{}{path}", service.url()));
    browser.wait_until("the failure", BUILD_MAX, |browser| {
        browser.title().starts_with("No binary") || browser.title().contains("pwned")
    });
    assert!(
        browser.text().contains("undefined_by_us"),
        "{}",
        browser.text()
    );
    assert!(!browser.title().contains("pwned"), "{}", browser.title());
    let images = browser.script("return document.querySelectorAll('pre img, pre script').length");
    assert_eq!(images, 0);
}

#[test]
fn a_page_of_another_origin_starts_nothing() {
    let service = service::service();
    let downloads = paths::scratch("downloads");
    let browser = Browser::start(downloads.path());
    let base = service.url();
    let (image, form, fetched) = (
        build_path("ex.example/many12"),
        build_path("ex.example/many13"),
        build_path("ex.example/many14"),
    );
    let page = format!(
        "<!doctype html><title>elsewhere</title>\
         <img src='{base}{image}events'><img src='{base}{image}retry'>\
         <iframe name=f></iframe>\
         <form id=b method=post target=f action='{base}{form}'></form>\
         <form id=a method=post target=f action='{base}/'>\
         <input name=spec value='ex.example/many15@v1.0.0'><input name=go value='{go}'></form>\
         <script>\
         new EventSource('{base}{fetched}events');\
         fetch('{base}{fetched}events', {{mode: 'no-cors'}}).catch(() => 0);\
         fetch('{base}{fetched}', {{method: 'POST', mode: 'no-cors'}}).catch(() => 0);\
         document.getElementById('b').submit();\
         setTimeout(() => document.getElementById('a').submit(), 500);\
         setTimeout(() => document.title = 'done', 2500);\
         </script>",
        go = sdk::GO
    );
    let other = other_origin(page);
    // The same machine under another port, and under a name that is another site.
    for origin in [
        format!("http://{other}/"),
        format!("http://localhost:{}/", other.port()),
    ] {
        browser.open(&origin);
        browser.wait_until("the attack", Duration::from_secs(30), |browser| {
            browser.title() == "done"
        });
    }
    for number in 12..16 {
        let module = format!("ex.example/many{number}");
        let page = http::get(&format!("{base}{}log", build_path(&module)));
        assert_eq!(page.status, 422, "{module} was built: {}", page.text());
        let asked =
            hotcell_integration::fake::shared().asked_for(&format!("{module}/@v/v1.0.0.zip"));
        assert!(asked.is_empty(), "{module} was built: {asked:?}");
    }
    assert!(service.lives());
}

#[test]
fn a_foreign_host_is_refused() {
    let service = service::service();
    for name in [
        "attacker.example",
        "127.0.0.1.attacker.example",
        "0x7f000001",
        "",
        "a b",
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        let answer = http::raw(
            service.address(),
            request.as_bytes(),
            Duration::from_secs(10),
        );
        let status = http::raw_status(&answer);
        assert!([400, 421].contains(&status), "`{name}`: {status}");
    }
    let port = service.address().port();
    let path = build_path("ex.example/many16");
    let host = ("host", "attacker.example");
    let answer = http::get_with(&format!("http://127.0.0.1:{port}{path}events"), &[host]);
    assert_eq!(answer.status, 421, "{}", answer.text());
    // The browser's resolver gives the attacker's name our address: DNS rebinding.
    let downloads = paths::scratch("downloads");
    let browser = Browser::start_with_names(downloads.path(), "attacker.example");
    browser.open(&format!("http://attacker.example:{port}{path}"));
    let shown = browser.source();
    assert!(
        shown.contains("does not answer under that host name"),
        "{shown}"
    );
}
