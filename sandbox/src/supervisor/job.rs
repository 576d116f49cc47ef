//! Argument list and environment of a job, made from checked fields and constants.
//!
//! The environment is complete: nothing else reaches the job. `INTERFACE` lists it for people.

use std::ffi::CString;

use super::{legacy, listing, request::Order};
use crate::{cell::place, sys::process::Exec, wire::Job};

/// What the standard library is compiled with; part of a frozen cache's name. A change of the
/// environment below that changes cache entries must change this.
pub(super) const STD_FLAGS: &str = "1 -trimpath CGO_ENABLED=0";
/// From this line on the compiler's own concurrency does not show in its output.
const GO_MINOR_CONCURRENT: u32 = 26;
/// From this line on `go install` takes a version; before, `go get` does the same.
const GO_MINOR_INSTALL: u32 = 18;

/// What is executed in the cell.
pub(super) fn exec(order: &Order) -> Exec {
    let (path, args) = match &order.request.job {
        Job::Program { args, .. } => {
            let first = [place::PROGRAM.to_owned()];
            (
                place::PROGRAM,
                first.into_iter().chain(args.iter().cloned()).collect(),
            )
        }
        job => (place::GO, go_args(job, order.go_minor)),
    };
    let text = |text: String| CString::new(text).expect("no field that was checked holds a NUL");
    let env = environment(order)
        .into_iter()
        .map(|(key, value)| text(format!("{key}={value}")));
    Exec::new(
        text(path.to_owned()),
        args.into_iter().map(text).collect(),
        env.collect(),
    )
}

fn go_args(job: &Job, go_minor: u32) -> Vec<String> {
    let mut args: Vec<String> = match job {
        // `-v` prints each package when it is compiled: the only progress there is.
        Job::Std => [
            "go",
            "build",
            "-v",
            "-trimpath",
            "-ldflags=-buildid=",
            "std",
        ]
        .map(str::to_owned)
        .to_vec(),
        Job::Command => return legacy::args(go_minor),
        Job::List { module, .. } => return listing::args(module),
        _ if go_minor < GO_MINOR_INSTALL => {
            ["go", "get", "-v", "-trimpath"].map(str::to_owned).to_vec()
        }
        _ => ["go", "install", "-v", "-trimpath"]
            .map(str::to_owned)
            .to_vec(),
    };
    if let Job::Install {
        package,
        version,
        stripped,
    } = job
    {
        let flags = if *stripped {
            "-ldflags=-buildid= -s"
        } else {
            "-ldflags=-buildid="
        };
        args.push(flags.to_owned());
        args.push(format!("{package}@{version}"));
    }
    args
}

fn environment(order: &Order) -> Vec<(&'static str, String)> {
    let cores = order.processors();
    let mut all = vec![
        ("HOME", place::HOME.to_owned()),
        ("PATH", format!("{}/bin", place::SDK)),
        ("TMPDIR", place::TMP.to_owned()),
        ("GOROOT", place::SDK.to_owned()),
        ("GOPATH", place::GOPATH.to_owned()),
        ("GOCACHE", place::CACHE.to_owned()),
        ("GOMODCACHE", place::MODULES.to_owned()),
        ("GOPROXY", format!("http://127.0.0.1:{}", place::RELAY_PORT)),
        ("GOSUMDB", "off".to_owned()), // the fetcher has verified
        ("GOTOOLCHAIN", "local".to_owned()),
        ("GOENV", "off".to_owned()),
        ("GOWORK", "off".to_owned()),
        ("GO111MODULE", "on".to_owned()),
        ("GOFLAGS", "-mod=readonly".to_owned()),
        ("GOVCS", "*:off".to_owned()),
        ("GOAUTH", "off".to_owned()),
        ("GOOS", order.request.goos.clone()),
        ("GOARCH", order.request.goarch.clone()),
        ("CGO_ENABLED", "0".to_owned()),
        ("GOMAXPROCS", cores.to_string()),
        ("LC_ALL", "C".to_owned()),
        ("TZ", "UTC".to_owned()),
    ];
    if order.go_minor < GO_MINOR_CONCURRENT {
        all.push(("GO19CONCURRENTCOMPILATION", "0".to_owned()));
    }
    if order.request.job == Job::Command {
        legacy::change(&mut all, order.go_minor);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_those_of_the_interface() {
        let install = |stripped| Job::Install {
            package: "a.b/c".to_owned(),
            version: "v1.0.0".to_owned(),
            stripped,
        };
        let words = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            go_args(&install(false), 18),
            words("go,install,-v,-trimpath,-ldflags=-buildid=,a.b/c@v1.0.0")
        );
        assert_eq!(
            go_args(&install(true), 26),
            words("go,install,-v,-trimpath,-ldflags=-buildid= -s,a.b/c@v1.0.0")
        );
        assert_eq!(
            go_args(&install(false), 17),
            words("go,get,-v,-trimpath,-ldflags=-buildid=,a.b/c@v1.0.0")
        );
    }
}
