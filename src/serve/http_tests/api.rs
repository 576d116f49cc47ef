//! The interface for programs: what its own description says is there, and nothing else.

use serde_json::{Value, json};

use super::*;
use crate::serve::api::DESCRIPTION;

fn description() -> Value {
    serde_json::from_str(DESCRIPTION).unwrap()
}

/// Names that are required of the answer with this status, by the description.
fn required(path: &str, method: &str, status: &str) -> Vec<String> {
    let all = description();
    let answer = &all["paths"][path][method]["responses"][status];
    let mut schema = &answer["content"]["application/json"]["schema"];
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        schema = &all["components"]["schemas"][name];
    }
    let names = schema["required"].as_array().into_iter().flatten();
    names
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

async fn post(site: &Site, path: &str, body: &Value) -> Answer {
    let request = Request::post(path)
        .header("host", "127.0.0.1:8000")
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap();
    site.send(request).await
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test]
async fn every_address_of_the_description_answers_as_it_says() {
    let site = Site::new().await;
    site.built().await;
    let paths = description()["paths"].as_object().unwrap().clone();
    for (path, methods) in &paths {
        for method in methods.as_object().unwrap().keys() {
            let address = path.replace("{key}", KEY);
            let answer = match (method.as_str(), path.as_str()) {
                // Has no end; records.rs has its tests.
                ("get", "/api/v1/records/events") => continue,
                ("get", "/api/v1/specs") => {
                    site.get(&format!("{address}?spec=example.org/m@v1.2.3/cmd/tool"))
                        .await
                }
                ("get", _) => site.get(&address).await,
                (_, "/api/v1/builds") => {
                    post(
                        &site,
                        &address,
                        &json!({ "spec": "example.org/m@v1.2.3/cmd/tool" }),
                    )
                    .await
                }
                _ => post(&site, &address, &json!({ "key": KEY })).await,
            };
            let said = json_of(&answer);
            let status = answer.status.as_str();
            let wanted = required(path, method, status);
            assert!(["200", "202"].contains(&status), "{method} {path}: {said}");
            for name in wanted {
                assert!(
                    said.get(&name).is_some(),
                    "{method} {path} has no {name}: {said}"
                );
            }
            let (other, allowed) = match method.as_str() {
                "get" => ("DELETE", "GET,HEAD"),
                _ => ("GET", "POST"),
            };
            let refused = site.ask(other, &address, &[]).await;
            assert_eq!(
                (refused.status, refused.header("allow")),
                (StatusCode::METHOD_NOT_ALLOWED, allowed),
                "{other} {path}"
            );
        }
    }
    let unknown = site.get("/api/v1/nothing").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!(unknown.header("content-type"), "application/problem+json");
}

#[tokio::test]
async fn refusals_are_problem_documents_for_whoever_names_no_other_form() {
    let site = Site::new().await;
    for (path, status, code) in [
        ("/api/v1/builds/x", 400, "bad_spec"),
        (
            "/api/v1/results/example.org/m@v1.9.9/linux-amd64-go1.26.8/",
            404,
            "not_found",
        ),
        ("/api/v1/specs", 400, "bad_query"),
        ("/api/v1/specs?spec=x@@@", 400, "bad_spec"),
        (
            "/api/v1/specs?spec=a.example/b&go=go1.13.2",
            400,
            "go_too_old",
        ),
        (
            "/api/v1/specs?spec=a.example/b&go=go1.5.latest",
            400,
            "go_too_old",
        ),
        ("/api/v1/specs?spec=a.example/b&evil=1", 400, "bad_query"),
        ("/api/v1/results?count=0", 400, "bad_query"),
        ("/api/v1/results?count=100000", 400, "bad_query"),
        ("/api/v1/results?module=..", 400, "bad_spec"),
        ("/api/v1/records?from=-1", 400, "bad_index"),
        (
            "/api/v1/records?from=99999999999999999999",
            400,
            "bad_index",
        ),
        ("/api/v1/records?count=501", 400, "bad_query"),
    ] {
        let answer = site.get(path).await;
        let said = json_of(&answer);
        assert_eq!(answer.status.as_u16(), status, "{path}: {said}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(
            (&said["code"], &said["status"]),
            (&json!(code), &json!(status)),
            "{path}"
        );
        assert_eq!(said["title"], answer.status.canonical_reason().unwrap());
        for name in ["type", "detail", "remedy"] {
            assert!(
                said[name].as_str().is_some_and(|text| !text.is_empty()),
                "{path}: {said}"
            );
        }
    }
    for body in [
        json!({}),
        json!({ "spec": "a.example/b", "cell": "none" }),
        json!([1]),
    ] {
        let answer = post(&site, "/api/v1/builds", &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
    }
    assert_eq!(site.started(), 0);
}

#[tokio::test]
async fn a_program_asks_for_a_build_and_waits_for_its_result() {
    let site = Site::new().await;
    site.bench.executor.go.send_replace(false);
    let wanted = json!({ "spec": "example.org/m@v1.2.3/cmd/tool", "go": "go1.26.8",
        "target": "linux/amd64" });
    let asked = post(&site, "/api/v1/builds", &wanted).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.text());
    let place = asked.header("location").to_owned();
    assert_eq!(place, format!("/api/v1/builds/{KEY}"));
    site.bench.executor.go.send_replace(true);
    site.built().await;
    let state = json_of(&site.get(&place).await);
    assert_eq!(state["state"], "built", "{state}");
    let result = json_of(&site.get(&format!("/api/v1/results/{KEY}")).await);
    assert_eq!(
        (&result["sum"], &result["log_index"]),
        (&state["sum"], &state["log_index"])
    );
    assert_eq!(
        site.get(result["file"].as_str().unwrap()).await.status,
        StatusCode::OK
    );
    let list = json_of(
        &site
            .get("/api/v1/results?module=example.org/m&count=1")
            .await,
    );
    assert_eq!(list["results"][0]["key"], KEY);
    let other = json_of(&site.get("/api/v1/results?module=example.org/other").await);
    assert_eq!(other["results"], json!([]));
    let again = post(&site, "/api/v1/builds", &wanted).await;
    assert_eq!((again.status, site.started()), (StatusCode::OK, 1));
    let foreign = Request::post("/api/v1/builds")
        .header("host", "127.0.0.1:8000")
        .header("sec-fetch-site", "cross-site")
        .body(Body::from(wanted.to_string()))
        .unwrap();
    assert_eq!(site.send(foreign).await.status, StatusCode::FORBIDDEN);
}
