//! What INTERFACE promises of each address, as scripts that people read: `data/contract/`.
//!
//! A request is a line with method and path; `> ` its header fields; then the status; `< ` the
//! fields of the answer; all other lines are parts of its body, in any order. `*` stands for any
//! text within a line. `= name` keeps the address that the answer leads to as `{name}`.

use std::{collections::BTreeMap, fs, path::Path};

use hotcell_integration::{
    fake, http, paths, sdk,
    service::{Place, Service, build_path},
};

/// A script with what it knows so far.
struct Script<'a> {
    service: &'a Service,
    names: BTreeMap<String, String>,
}

/// One request of a script and what is to come.
#[derive(Debug, Default)]
struct Step {
    request: String,
    sent: Vec<String>,
    status: u16,
    fields: Vec<String>,
    parts: Vec<String>,
    keep: Option<String>,
}

/// All steps of a text, in their order.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let lines = text.lines();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let is_request = ["GET /", "POST /", "DELETE /", "GET {", "POST {", "DELETE {"]
            .iter()
            .any(|start| line.starts_with(start));
        if is_request {
            let request = line.to_owned();
            steps.push(Step {
                request,
                ..Step::default()
            });
            continue;
        }
        let step = steps.last_mut().expect("a request comes first");
        match line.split_once(' ') {
            Some((">", field)) => step.sent.push(field.to_owned()),
            Some(("<", field)) => step.fields.push(field.to_owned()),
            Some(("=", name)) => step.keep = Some(name.to_owned()),
            _ if step.status == 0 => step.status = line.parse().expect("a status"),
            _ => step.parts.push(line.to_owned()),
        }
    }
    steps
}

/// Whether `text` is what the pattern says, all of it.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            let mut ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.any(|at| text.get(at..).is_some_and(|text| fits(rest, text)))
        }),
    }
}

impl Script<'_> {
    /// With names in the place of `{name}`.
    fn named(&self, text: &str) -> String {
        let names = self.names.iter();
        names.fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{name}}}"), value)
        })
    }

    fn run(&mut self, what: &str, step: &Step) {
        let request = self.named(&step.request);
        let (method, path) = request.split_once(' ').expect("a method and a path");
        let sent: Vec<_> = step.sent.iter().map(|field| self.named(field)).collect();
        let sent = sent.iter().map(|field| field.split_once(": "));
        let sent: Vec<_> = sent.map(|field| field.expect("name and value")).collect();
        let url = format!("{}{path}", self.service.url());
        let answer = http::send_with(method, &url, &sent);
        let text = answer.text();
        let told = format!(
            "{what}: {request} {sent:?}: {:?}\n{text:.2000}",
            answer.headers
        );
        assert_eq!(answer.status, step.status, "{told}");
        for field in &step.fields {
            let (name, value) = field.split_once(": ").expect("name and value");
            let (name, value) = (name.to_lowercase(), self.named(value));
            let found = answer.header(&name);
            assert!(
                fits(&value, found),
                "{name}: `{found}`, not `{value}`: {told}"
            );
        }
        for part in &step.parts {
            let pattern = format!("*{}*", self.named(part));
            let there = text.lines().any(|line| fits(&pattern, line));
            assert!(there, "no `{part}` in {told}");
        }
        if let Some(name) = &step.keep {
            let to = answer.header("location").to_owned();
            assert!(!to.is_empty(), "it leads nowhere: {told}");
            self.names.insert(name.clone(), to);
        }
    }
}

#[test]
fn every_address_answers_as_the_scripts_of_the_contract_say() {
    let scratch = paths::scratch("contract");
    let service = Place::new(scratch.path(), fake::shared()).serve(&[]);
    let names = [
        ("go".to_owned(), sdk::GO.to_owned()),
        ("build".to_owned(), build_path("ex.example/hello")),
    ];
    let mut script = Script {
        service: &service,
        names: names.into(),
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/contract");
    let files = fs::read_dir(folder).expect("there are scripts").flatten();
    let mut files: Vec<_> = files.map(|file| file.path()).collect();
    files.sort();
    let mut count = 0;
    for file in files {
        let text = fs::read_to_string(&file).expect("a text");
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        for step in steps(&text) {
            script.run(&name, &step);
            count += 1;
        }
    }
    assert!(count > 40, "{count} requests");
}
