//! The page of a module lists its commands, which the go command has found in a cell.

use std::time::Duration;

use hotcell_integration::{browser::Browser, http, paths, service};

/// Longest time that a list may take, with its SDK.
const LIST_MAX: Duration = Duration::from_mins(2);

fn list(module: &str) -> http::Answer {
    let url = format!("{}/{module}", service::service().url());
    let headers = [
        ("sec-fetch-site", "same-origin"),
        ("accept", "application/json"),
    ];
    http::post_with(&url, "", &headers)
}

fn page(module: &str) -> String {
    let headers = [("accept", "text/html")];
    let answer = http::get_with(&format!("{}/{module}", service::service().url()), &headers);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

#[test]
fn a_person_opens_a_module_and_sees_what_can_be_built() {
    let service = service::service();
    let downloads = paths::scratch("downloads");
    let browser = Browser::start(downloads.path());
    browser.open(&format!("{}/ex.example/commands@v1.0.0", service.url()));
    // A crawler that runs scripts has looked at it now, and nothing begins.
    std::thread::sleep(Duration::from_secs(2));
    assert!(
        browser.text().contains("List its commands"),
        "{}",
        browser.text()
    );
    browser.point();
    browser.wait_until("the commands", LIST_MAX, |browser| {
        browser.text().contains("ex.example/commands/cmd/two")
    });
    browser.click("a[href='/ex.example/commands@v1.0.0/cmd/two/linux-amd64-latest/']");
    browser.wait_until("its build page", Duration::from_secs(30), |browser| {
        browser.url().contains("/cmd/two/linux-amd64-go1.")
    });
}

#[test]
fn commands_that_do_not_build_are_listed_and_what_they_print_is_only_text() {
    let listed = list("ex.example/various@v1.0.0");
    assert_eq!(listed.status, 303, "{}", listed.text());
    let page = page("ex.example/various@v1.0.0");
    for (package, sentence) in [
        ("cmd/broken", ""),
        ("cmd/liar", ""),
        ("cmd/missing", ""),
        ("cmd/told", "Command told says what it is."),
    ] {
        let link = format!("href=\"/ex.example/various@v1.0.0/{package}/linux-amd64-latest/\"");
        assert!(page.contains(&link), "{link}\n{page}");
        assert!(page.contains(sentence), "{sentence}\n{page}");
    }
    for other in [
        "=\"/ex.example/various@v1.0.0/other",
        "hidden",
        "\u{1b}",
        "<b>",
        "And more",
    ] {
        assert!(!page.contains(other), "{other:?}\n{page}");
    }
}

#[test]
fn one_command_a_library_and_a_module_without_go_mod_are_told_apart() {
    assert_eq!(list("ex.example/hello@v1.0.0").status, 303);
    let only = http::get(&format!(
        "{}/ex.example/hello@v1.0.0",
        service::service().url()
    ));
    let to = (only.status, only.header("location"));
    assert_eq!(to, (307, "/ex.example/hello@v1.0.0/linux-amd64-latest/"));
    assert_eq!(list("ex.example/nomain@v1.0.0").status, 303);
    assert!(page("ex.example/nomain@v1.0.0").contains("it is a library"));
    assert_eq!(list("ex.example/old@v2.0.0+incompatible").status, 303);
    let badmod = list("ex.example/badmod@v1.0.0");
    assert_eq!(badmod.status, 404, "{}", badmod.text());
    assert!(badmod.text().contains("bad_go_mod"), "{}", badmod.text());
    let missing = list("ex.example/hello@v1.0.77");
    assert_eq!(missing.status, 404, "{}", missing.text());
    assert!(missing.text().contains("not_found"), "{}", missing.text());
}
