//! Behind a reverse proxy each visitor has limits of its own; on this machine there are none.

use hotcell_integration::{fake, http, paths, service::Place};

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
