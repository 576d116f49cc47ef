//! What a hostile module prints is shown harmlessly: in a terminal, a page, a stream, a text.

use hotcell_integration::{http, paths, service};

use crate::support::build;

const MODULE: &str = "ex.example/hostile";

/// Control characters that a terminal or a reader of lines obeys, but for line feed and tab.
fn obeyed(text: &str) -> String {
    let bidi = |letter: &char| matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let control = |letter: &char| letter.is_control() && *letter != '\n' && *letter != '\t';
    text.chars()
        .filter(|letter| control(letter) || bidi(letter))
        .map(|letter| letter.escape_unicode().to_string())
        .collect()
}

#[test]
fn a_terminal_shows_escape_sequences_and_obeys_none() {
    let folder = paths::scratch("hostile");
    let ended = build(
        &format!("{MODULE}@v1.0.0"),
        &folder.path().join("binary"),
        &[],
    );
    assert_eq!(ended.code, 1, "{}", ended.err());
    for text in [ended.err(), ended.out()] {
        assert_eq!(obeyed(&text), "", "{text:?}");
    }
    assert!(
        ended.err().contains("undefined: undefined_by_us"),
        "{}",
        ended.err()
    );
    assert!(
        ended.err().contains("pwned"),
        "the words themselves are shown: {}",
        ended.err()
    );
}

#[test]
fn a_page_shows_markup_and_runs_none() {
    let service = service::service();
    let base = format!("{}{}", service.url(), service::build_path(MODULE));
    http::get(&format!("{base}record"));
    let page = http::get_with(&base, &[("accept", "text/html")]);
    let text = page.text();
    assert!(text.contains("undefined_by_us"), "{text}");
    assert!(
        text.contains("&lt;script&gt;") || text.contains("&#60;script&#62;"),
        "{text}"
    );
    assert!(
        !text.contains("<script>document") && !text.contains("<img src=x"),
        "{text}"
    );
    assert_eq!(obeyed(&text), "", "{text}");
    let policy = page.header("content-security-policy");
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert_eq!(page.header("x-content-type-options"), "nosniff");
}

#[test]
fn plain_text_is_plain_for_every_browser() {
    let service = service::service();
    let base = format!("{}{}", service.url(), service::build_path(MODULE));
    let refusal = http::get(&format!("{base}record"));
    assert_eq!(refusal.status, 404);
    for answer in [refusal, http::get(&format!("{base}log"))] {
        let kind = answer.header("content-type");
        assert!(kind.starts_with("text/plain"), "{kind}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(obeyed(&answer.text()), "", "{}", answer.text());
    }
    let page = http::get_with(&format!("{base}record"), &[("accept", "text/html")]).text();
    assert!(!page.contains("<script>document"), "{page}");
    let json = http::get_with(&format!("{base}record"), &[("accept", "application/json")]);
    serde_json::from_slice::<serde_json::Value>(&json.body).expect("it is JSON");
}

#[test]
fn a_stream_keeps_its_frame_whatever_is_printed() {
    let service = service::service();
    let path = service::build_path("ex.example/hostile2");
    let stream = http::get(&format!("{}{path}events", service.url())).text();
    assert_eq!(obeyed(&stream), "", "{stream:?}");
    let mut ends = 0;
    let mut outputs = String::new();
    for frame in stream
        .split("\n\n")
        .filter(|frame| !frame.trim().is_empty())
    {
        let mut kind = "";
        for line in frame.lines().filter(|line| !line.starts_with(':')) {
            let (field, value) = line.split_once(':').expect("every line is a field");
            match field {
                "event" => kind = value.trim(),
                "data" => {
                    let data: serde_json::Value = serde_json::from_str(value)
                        .unwrap_or_else(|error| panic!("{error}: {line}"));
                    if kind == "output" {
                        outputs.push_str(data["text"].as_str().unwrap_or_default());
                    }
                }
                "id" | "retry" => {}
                other => panic!("a foreign field `{other}` in {frame}"),
            }
        }
        ends += usize::from(kind == "end");
    }
    assert_eq!(ends, 1, "{stream}");
    assert!(outputs.contains("undefined_by_us"), "{stream}");
}

#[test]
fn the_trace_of_the_service_holds_no_control_characters() {
    let service = service::service();
    let base = format!("{}{}", service.url(), service::build_path(MODULE));
    http::get(&format!("{base}record"));
    let trace = service.trace();
    assert!(trace.contains(MODULE), "{trace}");
    assert_eq!(obeyed(&trace), "");
}
