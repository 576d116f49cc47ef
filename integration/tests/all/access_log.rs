//! The access log of the real program: off by default, and nobody's whole address.

use hotcell_integration::{fake, http, paths, service::Place};

#[test]
fn requests_are_traced_when_that_is_wanted_and_nobodys_whole_address() {
    let folder = paths::scratch("access-log");
    let place = Place::new(folder.path(), fake::shared());
    let far = [
        ("x-forwarded-for", "198.51.100.77"),
        ("user-agent", "probe/7 \u{e9}"),
    ];
    let proxy = ["--trusted-proxy", "127.0.0.0/8"];
    let mut service = place.serve(&proxy);
    http::get_with(&format!("{}/-/search?q=secret", service.url()), &far);
    assert_eq!(service.stop(), 0);
    assert!(!service.trace().contains("\"target\":\"access\""));
    let mut service = place.serve(&[&proxy[..], &["--access-log"]].concat());
    http::get_with(&format!("{}/-/search?q=secret", service.url()), &far);
    http::get_with(&format!("{}/ex.example/none/x/y/z", service.url()), &far);
    assert_eq!(service.stop(), 0);
    let trace = service.trace();
    let lines = trace.lines().filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        (line["target"] == "access").then(|| line["fields"].clone())
    });
    let lines: Vec<_> = lines.collect();
    let search = lines.iter().find(|line| line["path"] == "/-/search");
    let search = search.unwrap_or_else(|| panic!("{trace}"));
    assert_eq!(search["client"], "198.51.100.0");
    assert_eq!(
        (&search["method"], &search["status"]),
        (&"GET".into(), &200.into())
    );
    assert!(
        search["agent"]
            .as_str()
            .is_some_and(|agent| agent.starts_with("probe/7"))
    );
    assert!(search["duration_ms"].is_u64());
    assert!(
        lines
            .iter()
            .any(|line| line["path"] == "/ex.example/none/x/y/z")
    );
    for secret in ["secret", "198.51.100.77"] {
        assert!(!trace.contains(secret), "{secret}: {trace}");
    }
}
