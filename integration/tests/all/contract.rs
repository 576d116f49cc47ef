//! What INTERFACE promises of each address, as scripts that people read: `data/contract/`.
//!
//! A request is a line with method and path; `> ` its header fields, `| ` the form that it sends;
//! then the status; `< ` the fields of the answer, empty for one that is not there; all other lines
//! are parts of its body, in any order. `*` stands for any text within a line. `= name` keeps the
//! address that the answer leads to as `{name}`, `= name Field` another field.
//!
//! `! ` says what happens before a request: the module proxy answers with a status or says a text
//! at one of its addresses, or is well there again; binaries on the disk cannot be read; the
//! service restarts with more options.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path};

use hotcell_integration::{
    fake::{Fault, Proxy, set},
    grown, host, http, paths, sdk,
    service::{Place, Service, build_path},
};

/// A script with what it knows so far.
struct Script<'a> {
    proxy: &'a Proxy,
    place: &'a Place,
    service: Service,
    names: BTreeMap<String, String>,
}

/// One request of a script and what is to come.
#[derive(Debug, Default)]
struct Step {
    happens: Vec<String>,
    request: String,
    sent: Vec<String>,
    form: Option<String>,
    status: u16,
    fields: Vec<String>,
    parts: Vec<String>,
    keep: Option<String>,
}

/// All steps of a text, in their order.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut happens = Vec::new();
    let lines = text.lines();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(what) = line.strip_prefix("! ") {
            happens.push(what.to_owned());
            continue;
        }
        let is_request = line.split_once(' ').is_some_and(|(method, path)| {
            method.bytes().all(|byte| byte.is_ascii_uppercase()) && path.starts_with(['/', '{'])
        });
        if is_request {
            steps.push(Step {
                happens: std::mem::take(&mut happens),
                request: line.to_owned(),
                ..Step::default()
            });
            continue;
        }
        let step = steps.last_mut().expect("a request comes first");
        match line.split_once(' ') {
            Some((">", field)) => step.sent.push(field.to_owned()),
            Some(("|", form)) => step.form = Some(form.to_owned()),
            Some(("<", field)) => step.fields.push(field.to_owned()),
            Some(("=", name)) => step.keep = Some(name.to_owned()),
            _ if step.status == 0 => step.status = line.parse().expect("a status"),
            _ => step.parts.push(line.to_owned()),
        }
    }
    assert!(happens.is_empty(), "no request comes after {happens:?}");
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

    /// Does what stands behind a `! `.
    fn happen(&mut self, what: &str) {
        let to_proxy = |what: &str, at: &str| {
            match what.split_once(' ') {
                Some(("answers", status)) => {
                    let status = status.parse().expect("a status");
                    self.proxy.fault(at, Fault::Status(status));
                }
                Some(("says", text)) => self.proxy.fault(at, Fault::Instead(text.into())),
                Some(("is", "well")) => self.proxy.mend(at),
                _ => panic!("the proxy does not know `{what}`"),
            };
        };
        if let Some(said) = what.strip_prefix("proxy ") {
            let (what, at) = said.rsplit_once(" at ").expect("an address");
            to_proxy(what, at);
        } else if let Some(options) = what.strip_prefix("restart") {
            assert_eq!(self.service.stop(), 0);
            let options: Vec<_> = options.split_whitespace().collect();
            self.service = self.place.serve(&options);
        } else {
            let mode = match what {
                "binaries cannot be read" => 0,
                "binaries can be read" => 0o444,
                other => panic!("nobody knows how to `{other}`"),
            };
            let folder = grown::data(self.place).join("artifacts");
            for (file, seen) in host::tree(&folder) {
                let mode = fs::Permissions::from_mode(mode);
                if !seen.folder {
                    fs::set_permissions(folder.join(file), mode).expect("ours");
                }
            }
        }
    }

    fn run(&mut self, what: &str, step: &Step) {
        for thing in &step.happens {
            let thing = self.named(thing);
            self.happen(&thing);
        }
        let request = self.named(&step.request);
        let (method, path) = request.split_once(' ').expect("a method and a path");
        let sent: Vec<_> = step.sent.iter().map(|field| self.named(field)).collect();
        let sent = sent.iter().map(|field| field.split_once(": "));
        let sent: Vec<_> = sent.map(|field| field.expect("name and value")).collect();
        let url = format!("{}{path}", self.service.url());
        let answer = match &step.form {
            Some(form) => http::post_with(&url, &self.named(form), &sent),
            None => http::send_with(method, &url, &sent),
        };
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
        if let Some(keep) = &step.keep {
            let (name, field) = keep.split_once(' ').unwrap_or((keep, "Location"));
            let found = answer.header(&field.to_lowercase()).to_owned();
            assert!(!found.is_empty(), "no {field}: {told}");
            self.names.insert(name.to_owned(), found);
        }
    }
}

#[test]
fn every_address_answers_as_the_scripts_of_the_contract_say() {
    let scratch = paths::scratch("contract");
    let proxy = Proxy::start(set::all()); // its faults are nobody else's
    let place = Place::new(scratch.path(), &proxy).stocked();
    let service = place.serve(&[]);
    let names = [
        ("go", sdk::GO.to_owned()),
        ("build", build_path("ex.example/hello")),
        ("verifier", service.verifier_key().to_owned()),
        ("long", "a".repeat(2_000)),
    ];
    let names = names.map(|(name, value)| (name.to_owned(), value));
    let mut script = Script {
        proxy: &proxy,
        place: &place,
        service,
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
    assert!(count > 120, "{count} requests");
}
