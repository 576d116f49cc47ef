//! The operator's rules: what may begin here, and that whatever exists stays readable.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};

use super::*;
use crate::serve::{limits::rules::Rules, testing::key_of};

const ONE: [u8; 4] = [192, 0, 2, 1];
const PROXY: [u8; 4] = [127, 0, 0, 9];
const NAME_OF: &str = "/api/v1/specs?go=go1.26.8&spec=";

impl Site {
    pub(super) fn rule(&self, rules: Rules) {
        self.tell.send_modify(|told| told.rules = rules);
    }

    pub(super) async fn read(&self, peer: [u8; 4], path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::get(path).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send_from(peer, request.body(Body::empty()).unwrap())
            .await
    }

    async fn wants(&self, peer: [u8; 4], path: &str, body: &Value) -> Answer {
        let request = Request::post(path).header("host", "localhost");
        let request = request.header("content-type", "application/json");
        self.send_from(peer, request.body(Body::from(body.to_string())).unwrap())
            .await
    }

    fn counts(&self, rule: &str, count: usize) {
        let gauges = crate::serve::metrics::Gauges::default();
        let text = self.app.metrics.text(gauges, &[], None, &[]);
        let line = format!("hotcell_barred_total{{rule=\"{rule}\"}} {count}");
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

fn code(answer: &Answer) -> Value {
    serde_json::from_slice::<Value>(&answer.body).unwrap()["code"].clone()
}

#[tokio::test]
async fn a_denied_module_is_refused_before_anybody_is_asked_and_what_exists_is_read() {
    let site = Site::new().await;
    let result = site.built().await;
    site.rule(Rules {
        deny: vec!["example.org/*".parse().unwrap()],
        ..Rules::default()
    });
    site.tell
        .send_modify(|told| told.contact = Some("abuse@build.example".to_owned()));
    let asked = site.bench.executor.resolved.load(Relaxed);
    let mut refused = 0;
    for path in [
        format!("{NAME_OF}example.org/m@latest/cmd/tool"),
        format!("{NAME_OF}example.org/m/cmd/tool@latest"),
        "/api/v1/specs?spec=example.org/m@v1.2.3/cmd/tool".to_owned(),
        "/example.org/m".to_owned(),
        "/example.org/m@latest/cmd/tool".to_owned(),
        "/example.org/m@latest/linux-amd64-go1.26.8/record".to_owned(),
        "/example.org/m@v1.2.3/linux-amd64-latest/".to_owned(),
        "/tlog/lookup/example.org/m@latest/linux-amd64-latest/".to_owned(),
        format!("/{}record", key_of(1)),
        format!("/{}events", key_of(1)),
        format!("/tlog/lookup/{}", key_of(1)),
    ] {
        // Of the operator, too: it is a rule about the instance.
        for peer in [ONE, [127, 0, 0, 1]] {
            let answer = site
                .read(peer, &path, &[("accept", "application/json")])
                .await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
            assert_eq!(answer.header("content-type"), "application/problem+json");
            assert_eq!(code(&answer), "module_denied", "{path}");
            assert!(answer.text().contains("abuse@build.example"), "{path}");
            refused += 1;
        }
    }
    let wanted = json!({ "spec": "example.org/m@latest/cmd/tool" });
    for (path, body) in [
        ("/api/v1/builds", wanted),
        (
            "/api/v1/observations",
            json!({ "key": key_of(1).to_string() }),
        ),
    ] {
        let answer = site.wants(ONE, path, &body).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(code(&answer), "module_denied");
        refused += 1;
    }
    let listing = site.post("/example.org/m@v1.2.3", "").await;
    assert_eq!(listing.status, StatusCode::FORBIDDEN, "{}", listing.text());
    assert!(site.bench.executor.listed.lock().unwrap().is_empty());
    refused += 1;
    site.counts("module", refused);
    assert_eq!(site.bench.executor.resolved.load(Relaxed), asked);
    assert_eq!(site.started(), 1);
    for path in [
        result.clone(),
        format!("{result}{NAME}"),
        format!("/{KEY}record"),
        format!("/{KEY}log"),
        format!("/tlog/lookup/{KEY}"),
        format!("/api/v1/results/{KEY}"),
    ] {
        let answer = site.read(ONE, &path, &[]).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
    }
    site.rule(Rules::default());
    let record = site.read(ONE, &format!("/{}record", key_of(1)), &[]).await;
    assert_eq!(record.status, StatusCode::OK);
}

#[tokio::test]
async fn only_allowed_modules_are_built_and_denied_ones_of_them_are_not() {
    let site = Site::new().await;
    site.rule(Rules {
        allow: vec!["example.org".parse().unwrap()],
        deny: vec!["example.org/m2".parse().unwrap()],
        ..Rules::default()
    });
    for (path, status) in [
        ("/example.org/m1@v1.0.0/linux-amd64-go1.26.8/record", 200),
        ("/example.org/m2@v1.0.0/linux-amd64-go1.26.8/record", 403),
        ("/example.org/m22@v1.0.0/linux-amd64-go1.26.8/record", 200),
        ("/example.com/m1@v1.0.0/linux-amd64-go1.26.8/record", 403),
    ] {
        let answer = site.read(ONE, path, &[]).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
    }
    assert_eq!(site.started(), 2);
}

#[tokio::test]
async fn new_builds_keep_to_the_bounds_of_go_and_are_told_them() {
    let site = Site::new().await;
    let record = |go: &str| format!("/example.org/m@v1.0.0/linux-amd64-{go}/record");
    site.read(ONE, &record("go1.20"), &[]).await;
    let version = |text| Some(crate::spec::GoVersion::parse(text).unwrap());
    site.rule(Rules {
        go_min: version("go1.21.0"),
        go_max: version("go1.26.8"),
        ..Rules::default()
    });
    for (go, status) in [
        ("go1.20.14", 403),
        ("go1.21.0", 200),
        ("go1.26.8", 200),
        ("go1.26.9", 403),
        ("go1.20", 200), // it exists
    ] {
        let answer = site.read(ONE, &record(go), &[]).await;
        assert_eq!(answer.status.as_u16(), status, "{go}");
        if status == 403 {
            let text = format!(
                "go_out_of_bounds: this instance builds with Go releases from go1.21.0 to \
                 go1.26.8, not with {go}\nask for a release within these bounds\n"
            );
            assert_eq!(answer.text(), text);
        }
    }
    site.counts("go", 2);
    let page = site.browse("/-/instance").await;
    assert!(page.text().contains("from go1.21.0 to go1.26.8"));
}

#[tokio::test]
async fn a_bad_client_reads_everything_and_begins_nothing() {
    let site = Site::new().await;
    let result = site.built().await;
    let fails = fails(FailureClass::CannotBuild, "build_failed");
    site.bench.executor.set(&key_of(5), fails);
    site.get(&format!("/{}record", key_of(5))).await;
    let (started, asked) = (site.started(), site.bench.executor.resolved.load(Relaxed));
    site.rule(Rules {
        bad_clients: ["agent:BadBot/", "network:198.51.100.0/24"]
            .map(|rule| rule.parse().unwrap())
            .to_vec(),
        ..Rules::default()
    });
    let bot = ("user-agent", "Mozilla/5.0 (compatible; badbot/2.0)");
    let far = ("x-forwarded-for", "198.51.100.77");
    let json = ("accept", "application/json");
    for (peer, who) in [(ONE, bot), (PROXY, bot), (PROXY, far)] {
        for path in [
            format!("/{}record", key_of(1)),
            format!("/{}events", key_of(1)),
            format!("/tlog/lookup/{}", key_of(1)),
            format!("{NAME_OF}example.org/m@latest/cmd/tool"),
            "/example.org/m".to_owned(),
        ] {
            let answer = site.read(peer, &path, &[who, json]).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {who:?}");
            assert_eq!(code(&answer), "bad_client", "{path}");
        }
        for path in [
            format!("{result}{NAME}"),
            format!("/{KEY}record"),
            "/".to_owned(),
        ] {
            let answer = site.read(peer, &path, &[who]).await;
            assert_eq!(answer.status, StatusCode::OK, "{path} {who:?}");
        }
        let retry = Request::post(format!("/{}retry", key_of(5)))
            .header("host", "localhost")
            .header("sec-fetch-site", "same-origin")
            .header(who.0, who.1);
        let retry = retry.body(Body::empty()).unwrap();
        let answer = site.send_from(peer, retry).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{who:?}");
    }
    assert_eq!(site.started(), started);
    assert_eq!(site.bench.executor.resolved.load(Relaxed), asked);
    site.counts("client", 18);
    let failure = site.get(&format!("/{}record", key_of(5))).await;
    assert_eq!(
        failure.status,
        StatusCode::NOT_FOUND,
        "nothing was forgotten"
    );
    // Who only says to be somebody else is still themselves; so is the operator.
    for (peer, who) in [
        ([198, 51, 100, 7], ("x-forwarded-for", "192.0.2.9")),
        ([198, 51, 100, 7], ("x-real-ip", "127.0.0.1")),
    ] {
        let answer = site
            .read(peer, &format!("/{}record", key_of(1)), &[who])
            .await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{who:?}");
    }
    let record = format!("/{}record", key_of(1));
    let operator = site.read([127, 0, 0, 1], &record, &[bot]).await;
    assert_eq!(operator.status, StatusCode::OK);
    let other = site.read(ONE, &format!("/{}record", key_of(2)), &[]).await;
    assert_eq!(other.status, StatusCode::OK);
}

#[tokio::test]
async fn rates_change_while_the_service_runs() {
    let site = Site::new().await;
    let ask = |n| {
        let path = format!("/{}record", key_of(n));
        let site = &site;
        async move { site.read(ONE, &path, &[]).await }
    };
    let rule = |text: &str| {
        let rates = vec![text.parse().unwrap()];
        site.rule(Rules {
            rates,
            ..Rules::default()
        });
    };
    rule("lookup=2/600");
    assert_eq!(ask(0).await.status, StatusCode::OK);
    assert_eq!(ask(1).await.status, StatusCode::OK);
    let refused = ask(2).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.header("retry-after"), "600");
    // What was used up comes back at the rate that is in force, here the default.
    rule("build=1/1");
    assert_eq!(ask(2).await.header("retry-after"), "10");
    site.bench.clock.advance(10);
    assert_eq!(ask(2).await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_waits_or_runs_against_a_new_rule_is_dropped_and_does_not_come_back() {
    let site = Site::new().await;
    site.bench.executor.go.send_replace(false);
    for n in 0..3 {
        site.post(&format!("/{}", key_of(n)), "").await;
    }
    assert_eq!((site.app.queue.running(), site.app.queue.waiting()), (1, 2));
    site.rule(Rules {
        deny: vec![
            "example.org/m0".parse().unwrap(),
            "example.org/m1".parse().unwrap(),
        ],
        ..Rules::default()
    });
    site.app.queue.sweep().await.unwrap();
    while site.started() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(site.bench.executor.started()[1], key_of(2).to_string());
    assert_eq!((site.app.queue.running(), site.app.queue.waiting()), (1, 0));
    // A start under a rule that is against what waits.
    let mut bench = site.bench;
    let rules = Rules {
        deny: vec!["example.org".parse().unwrap()],
        ..Rules::default()
    };
    let told = Told {
        rules,
        ..Told::default()
    };
    bench.told = watch::Sender::new(told).subscribe();
    let queue = bench.queue(1).await;
    assert_eq!((queue.running(), queue.waiting()), (0, 0));
    assert!(bench.catalogue.jobs().await.unwrap().is_empty());
}

#[test]
fn rules_that_mean_nothing_are_mistakes() {
    use crate::serve::limits::rules::{BadClient, ClassRate, NotBadClient};
    for text in [
        "",
        "agent",
        "agent:",
        "agent: ",
        "network:",
        "network:10.0.0.1/8",
        "Agent:x",
        "agent:\u{e9}",
        "agent:a\nb",
        "10.0.0.0/8",
        "host:",
        "host:.example",
        "host:*.example",
        "host:crawler.example.",
        "host:a/b",
    ] {
        assert_eq!(
            text.parse::<BadClient>(),
            Err(NotBadClient::Form),
            "{text:?}"
        );
    }
    for text in [
        "agent:gptbot",
        "network:2001:db8::/32",
        "network:192.0.2.0/24",
        "host:crawler.example",
        "host:localhost",
    ] {
        assert_eq!(text.parse::<BadClient>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "build",
        "build=",
        "build=1",
        "build=0/1",
        "build=1/0",
        "build=1/86401",
        "build=1000001/1",
        "build=+1/1",
        "Build=1/1",
        "other=1/1",
        "build=1/1/1",
    ] {
        text.parse::<ClassRate>().unwrap_err();
    }
    "old_go=1000000/86400".parse::<ClassRate>().unwrap();
}
