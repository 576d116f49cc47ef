//! Behind a reverse proxy each visitor has limits of its own; on this machine there are none. The
//! operator's rules bind everybody.

use std::{fs, time::Duration};

use hotcell_integration::{
    browser::Browser,
    fake, host, http, paths, sdk,
    service::{Place, build_path, record_path},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A name that moves: each question goes to the module proxy, and none builds anything.
const QUESTION: &str = "/api/v1/specs?spec=ex.example/hello@latest";
/// More than one client may ask at once.
const QUESTIONS: usize = 140;

#[test]
fn a_visitor_behind_a_trusted_proxy_is_limited_alone_and_the_operator_is_not() {
    let folder = paths::scratch("limits-http");
    let service = Place::new(folder.path(), fake::shared());
    let service = service.serve(&["--trusted-proxy", "127.0.0.0/8"]);
    let address = format!("{}{QUESTION}&go=go1.26.8", service.url());
    let ask = |visitor| http::get_with(&address, &[("x-forwarded-for", visitor)]);
    let one = "203.0.113.9, 198.51.100.1";
    let answers: Vec<_> = (0..QUESTIONS).map(|_| ask(one)).collect();
    let refused = answers.iter().find(|answer| answer.status == 429);
    let refused = refused.expect("one visitor has a limit");
    assert!(refused.text().contains("\"limited\""), "{}", refused.text());
    let after: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((1..=60).contains(&after), "{after}");
    for other in ["198.51.100.2", "198.51.100.1, 192.0.2.7", "2001:db8::1"] {
        assert_eq!(ask(other).status, 200, "{other}");
    }
    drop(service);

    let folder = paths::scratch("limits-none");
    let service = Place::new(folder.path(), fake::shared()).serve(&[]);
    let address = format!("{}{QUESTION}&go=go1.26.8", service.url());
    for _ in 0..QUESTIONS {
        let answer = http::get(&address);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    // What a proxy has passed on that nobody named is not the operator's; all of it is one client.
    let mut visitors = (0..QUESTIONS).map(|n| format!("198.51.100.{n}"));
    let limited = visitors.any(|visitor| {
        let answer = http::get_with(&address, &[("x-forwarded-for", &visitor)]);
        answer.status == 429
    });
    assert!(
        limited,
        "visitors through a proxy were taken for the operator"
    );
}

#[test]
fn the_operators_rules_change_at_a_signal_and_a_refused_page_says_why() {
    let folder = paths::scratch("rules");
    let file = folder.path().join("hotcell.toml");
    let place = Place::new(folder.path(), fake::shared()).stocked();
    let write = |text: &str| fs::write(&file, text).expect("the folder takes files");
    write("bad-client = ['host:*.example']\ngo-min = 'go1.22.1'\ngo-max = 'go1.22.0'\n");
    let told = place.run(["testconfig", "hotcell.toml"]).expect(2).err();
    for part in [
        "hotcell.toml:1: bad-client: write agent:PART-OF-USER-AGENT, network:ADDRESS/BITS or host:",
        "hotcell.toml:2: go-min: no release is between go1.22.1 and go1.22.0",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    write("contact = 'abuse@build.example'\ntrusted-proxy = ['127.0.0.0/8']\n");
    let service = place.serve(&["--config", "hotcell.toml"]);
    service.builds("ex.example/hello");
    let ask = |path: &str, fields: &[(&str, &str)]| {
        http::get_with(&format!("{}{path}", service.url()), fields)
    };
    let other = format!("{QUESTION}&go={}", sdk::GO);
    assert_eq!(ask(&other, &[]).status, 200);
    write(
        "contact = 'abuse@build.example'\ntrusted-proxy = ['127.0.0.0/8']\n\
         deny-module = ['ex.example/*']\n\
         bad-client = ['network:203.0.113.0/24', 'host:localhost']\n",
    );
    let pid = Pid::from_raw(i32::try_from(service.pid()).expect("a pid is positive"));
    kill(pid, Signal::SIGHUP).expect("our own child takes signals");
    let denied = host::wait_for(Duration::from_secs(30), || {
        let answer = ask(&other, &[]);
        (answer.status == 403).then(|| answer.text())
    });
    let denied = denied.unwrap_or_else(|| panic!("{}", service.trace()));
    assert!(denied.contains("\"module_denied\""), "{denied}");
    assert!(denied.contains("abuse@build.example"), "{denied}");
    let name = "/api/v1/specs?spec=other.example/x@latest";
    // The second one is called `localhost`, as every resolver knows.
    for address in ["203.0.113.5", "127.0.0.1"] {
        let barred = ask(name, &[("x-forwarded-for", address)]);
        assert_eq!(barred.status, 403, "{address}: {}", barred.text());
        assert!(barred.text().contains("\"bad_client\""), "{address}");
    }
    let far = [("x-forwarded-for", "203.0.113.5")];
    assert_eq!(ask(&record_path("ex.example/hello"), &far).status, 200);

    let browser = Browser::start(folder.path());
    let page = build_path("ex.example/many2");
    browser.open(&format!("{}{page}", service.url()));
    browser.wait_until("the reason", Duration::from_secs(30), |browser| {
        browser
            .text()
            .contains("this instance does not build `ex.example/many2`")
    });
}
