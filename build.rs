//! Compiles the hostile program of `hotcell selftest`, which is carried within this one.
//!
//! It is freestanding, so the compiler of this build is all it needs. For an architecture that it
//! does not know, an empty file takes its place, and the command says so.
#![expect(
    clippy::disallowed_methods,
    reason = "a build script writes one file and starts the compiler that builds this program"
)]

use std::{env, fs, path::PathBuf, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=selftest");
    let variable = |name: &str| env::var(name).expect("cargo tells build scripts where they are");
    let program = PathBuf::from(variable("OUT_DIR")).join("hostile");
    if variable("CARGO_CFG_TARGET_OS") != "linux" || variable("CARGO_CFG_TARGET_ARCH") != "x86_64" {
        fs::write(&program, b"").expect("the output folder takes files");
        return;
    }
    let mut command = Command::new(variable("RUSTC"));
    command
        .args([
            "--crate-name",
            "hostile",
            "--crate-type",
            "bin",
            "--edition",
            "2024",
        ])
        .args(["--target", &variable("TARGET")])
        .arg(PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("selftest/main.rs"))
        .arg("-o")
        .arg(&program);
    for option in [
        "opt-level=s",
        "panic=abort",
        "codegen-units=1",
        "relocation-model=static", // one place in memory: no loader, no relocation
        "target-feature=+crt-static",
        "strip=symbols",
        "link-arg=-nostartfiles",
        "link-arg=-nostdlib",
        "link-arg=-static",
        "link-arg=-Wl,--build-id=none",
    ] {
        command.args(["-C", option]);
    }
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        command.arg(format!("-Clinker={linker}"));
    }
    let status = command
        .status()
        .expect("the compiler that runs this script can be started");
    assert!(
        status.success(),
        "the hostile program of selftest does not compile"
    );
}
