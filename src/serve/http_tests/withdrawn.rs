//! What was withdrawn is handed out in no form, and everything else about it is as it was.

use serde_json::{Value, json};

use super::*;
use crate::serve::limits::withdrawn::Withdrawn;

const REASON: &str = "order 7 of the <b>court</b>";
const BLOCKED: [&str; 2] = ["", ".gz"];

impl Site {
    fn withdraw(&self, texts: &[&str]) {
        let all = texts.iter().map(|text| text.parse().unwrap());
        let all: Vec<Withdrawn> = all.collect();
        self.tell.send_modify(|told| told.rules.withdrawn = all);
    }
}

#[tokio::test]
async fn a_withdrawn_build_is_in_the_log_and_handed_out_in_no_form() {
    let site = Site::new().await;
    let result = site.built().await;
    let lookup = site.get(&format!("/tlog/lookup/{KEY}")).await;
    site.withdraw(&[&format!("{KEY} {REASON}")]);
    site.tell
        .send_modify(|told| told.contact = Some("abuse@build.example".to_owned()));
    for base in [format!("/{KEY}"), result.clone()] {
        for end in BLOCKED {
            for method in ["GET", "HEAD"] {
                let answer = site.ask(method, &format!("{base}{NAME}{end}"), &[]).await;
                assert_eq!(answer.status.as_u16(), 451, "{base} {end}");
                let link = "</-/instance>; rel=\"blocked-by\"";
                assert_eq!(answer.header("link"), link);
                assert_eq!(answer.header("cache-control"), "no-cache");
                let wanted = format!(
                    "withdrawn: this build was withdrawn: {REASON}\nrecords stay in the log; \
                     /-/withdrawn has the list; the operator: abuse@build.example\n"
                );
                assert!(
                    method == "HEAD" || answer.text() == wanted,
                    "{}",
                    answer.text()
                );
            }
        }
    }
    let json = ("accept", "application/json");
    let answer = site.ask("GET", &format!("{result}{NAME}"), &[json]).await;
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let said: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        (&said["code"], &said["status"]),
        (&json!("withdrawn"), &json!(451))
    );

    let page = site.browse(&result).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text().contains("order 7 of the &#60;b&#62;court"));
    assert!(!page.text().contains(NAME), "no link to the binary");
    let list = site.browse("/-/withdrawn").await;
    assert!(list.text().contains(KEY) && list.text().contains("&#60;b&#62;court"));
    let wanted = json!({ "what": KEY, "status": 451, "reason": REASON });
    for (path, place) in [
        (format!("/api/v1/results/{KEY}"), "/withdrawn"),
        (format!("/api/v1/builds/{KEY}"), "/withdrawn"),
        ("/api/v1/withdrawn".to_owned(), "/withdrawn/0"),
    ] {
        let said: Value = serde_json::from_slice(&site.get(&path).await.body).unwrap();
        assert_eq!(said.pointer(place), Some(&wanted), "{path}");
    }

    let record = site.get(&format!("/{KEY}record")).await;
    assert_eq!(record.status, StatusCode::OK);
    let again = site.get(&format!("/tlog/lookup/{KEY}")).await;
    assert_eq!(again.body, lookup.body, "the log says what it said");
    let other = KEY.replace("linux-amd64", "linux-arm64");
    let other = site.get(&format!("/{other}record")).await;
    assert_eq!(
        other.status,
        StatusCode::OK,
        "another target is another build"
    );

    site.withdraw(&[]);
    for end in BLOCKED {
        let back = site.get(&format!("{result}{NAME}{end}")).await;
        assert_eq!(back.status, StatusCode::OK, "{}", back.text());
    }
    assert!(site.browse(&result).await.text().contains(NAME));
    let none = site.get("/api/v1/withdrawn").await;
    assert_eq!(none.text(), "{\"withdrawn\":[]}");
}

#[tokio::test]
async fn nothing_that_was_withdrawn_is_built_again_or_anew() {
    let site = Site::new().await;
    let result = site.built().await;
    // All of the version; the binary of what was built is gone from the disk.
    let hash = site.bench.catalogue.result(&key()).unwrap().unwrap().sha256;
    site.withdraw(&["example.org/m@v1.2.3/ 410 it leaks a key"]);
    for entry in std::fs::read_dir(site.bench.folder.path().join("artifacts")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }
    let gone = site.app.artifacts.binary(&hash).ok().flatten();
    assert!(gone.is_none());
    let other = KEY.replace("linux-amd64", "linux-arm64");
    for path in [
        format!("{result}{NAME}"),
        format!("/{KEY}{NAME}.gz"),
        format!("/{other}"),
        format!("/{other}record"),
        format!("/{other}events"),
        format!("/{other}{NAME}"),
        format!("/tlog/lookup/{other}"),
    ] {
        let answer = site.get(&path).await;
        assert_eq!(answer.status, StatusCode::GONE, "{path}: {}", answer.text());
        assert!(answer.text().contains("it leaks a key"), "{path}");
        assert_eq!(answer.header("link"), "", "{path}");
    }
    let answer = site.post(&format!("/{other}"), "").await;
    assert_eq!(answer.status, StatusCode::GONE);
    let body = json!({ "spec": "example.org/m@v1.2.3/cmd/tool", "target": "linux/arm64" });
    let asked = Request::post("/api/v1/builds").header("host", "localhost");
    let asked = asked.body(Body::from(body.to_string())).unwrap();
    assert_eq!(site.send(asked).await.status, StatusCode::GONE);
    assert_eq!(site.started(), 1);
    let record = site.get(&format!("/{KEY}record")).await;
    assert_eq!(record.status, StatusCode::OK);
}
