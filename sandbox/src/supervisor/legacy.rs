//! How the go command of SDKs before Go 1.21 is made: their own is linked dynamically, and a cell
//! holds no C library.
//!
//! A go command can build another release's: with `GOROOT` at the old SDK it runs the old compiler,
//! assembler and linker over the old sources, as cmd/dist does when it bootstraps a release. Called
//! `go_bootstrap` it does not insist on its own version (`cmd/go/internal/work/gc.go`). The driver
//! is the go command of [`DRIVER_GO`], built from its SDK's own source with the changes of
//! [`PATCHES`], so that it does not say to the old tools what they do not know yet. What comes out
//! is, bit for bit, what the old SDK's own go command makes of its own source where a C library is
//! at hand; `toolchains/` pins it. Only verified SDKs go in: no module, no relay, no visitor.

use std::{collections::BTreeMap, sync::LazyLock};

use super::request::Order;
use crate::{
    cell::place,
    store::{self, Name},
    wire::CellRequest,
};

/// The release whose go command, changed, makes those of older releases: the newest of the last
/// line that still supports what they need.
pub const DRIVER_GO: &str = "go1.21.13";
/// `h1:` of the only SDK that a driver is made from.
pub const DRIVER_H1: &str = "h1:THKeCuuOK6mnQhbTbvvH9CKU3D4lwUERQax+yRXCVJk=";
/// First line of Go whose go command is static.
pub(super) const STATIC_SINCE: u32 = 21;
/// Oldest release: before it the working folder leaks into binaries.
pub(super) const OLDEST: (u32, u32) = (13, 3);
/// Part of the names of what is made; changes with everything below that changes the result.
const RECIPE: &str = "1 go command";
/// Last line of Go whose assembler takes neither package path nor `-compiling-runtime`.
const OLD_ASSEMBLER_UNTIL: u32 = 15;
/// Longest source file that is changed; the longest has 120 KiB.
const SOURCE_BYTES_MAX: u64 = 1 << 20;
/// Where the changed files lie, below the home.
const OVERLAY: &str = "overlay";

/// Changes of the driver: file, what stands there exactly once, what is to stand there.
const PATCHES: [(&str, &str, &str); 5] = [
    // Linkers before Go 1.18 do not know this line; without a module it says nothing.
    (
        "src/cmd/go/internal/work/exec.go",
        "fmt.Fprintf(&icfg, \"modinfo %q\\n\", modload.ModInfoData(info))",
        "_ = info",
    ),
    // The driver's line has other defaults of GODEBUG for older sources than these had themselves.
    (
        "src/cmd/go/internal/work/gc.go",
        "if root.Package.DefaultGODEBUG != \"\" {",
        "if false {",
    ),
    // Assemblers before Go 1.16 do not know these arguments.
    (
        "src/cmd/go/internal/work/gc.go",
        "func asmArgs(",
        "var oldAssembler = os.Getenv(\"HOTCELL_ASM\") == \"old\"\n\nfunc asmArgs(",
    ),
    (
        "src/cmd/go/internal/work/gc.go",
        "base.Tool(\"asm\"), \"-p\", pkgpath, \"-trimpath\"",
        "base.Tool(\"asm\"), func() []string { if oldAssembler { return nil }; \
         return []string{\"-p\", pkgpath} }(), \"-trimpath\"",
    ),
    (
        "src/cmd/go/internal/work/gc.go",
        "if objabi.IsRuntimePackagePath(pkgpath) {",
        "if !oldAssembler && objabi.IsRuntimePackagePath(pkgpath) {",
    ),
];

/// Experiments that a line has switched on and the driver's line no longer knows, as build tags
/// (`internal/buildcfg/exp.go` of that line).
fn tags(minor: u32) -> Option<&'static str> {
    match minor {
        17 => Some("goexperiment.regabig,goexperiment.regabireflect,goexperiment.regabidefer"),
        18 => Some("goexperiment.regabireflect,goexperiment.pacerredesign"),
        20 => Some("goexperiment.unified"),
        _ => None,
    }
}

/// SHA-256 in hex of the go commands that are pinned, by release; of the driver by its release too.
static PINS: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    parse_pins(include_str!("../../../toolchains/linux-amd64.toml")).expect("checked by a test")
});

fn parse_pins(text: &str) -> Option<BTreeMap<String, String>> {
    let mut file: BTreeMap<String, BTreeMap<String, String>> = toml::from_str(text).ok()?;
    let hex = |text: &str| {
        let digits = text.strip_prefix("sha256:")?;
        let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (digits.len() == 64 && digits.bytes().all(lower)).then(|| digits.to_owned())
    };
    let pins = file.remove("go_command")?.into_iter();
    pins.map(|(go, digest)| Some((go, hex(&digest)?))).collect()
}

/// What the go command made from an SDK must be, when that is pinned.
pub(super) fn pinned(go: &str) -> Option<&'static str> {
    PINS.get(go).map(String::as_str)
}

/// Name of the go command that is made from an SDK.
pub(super) fn made(h1: &str) -> Name {
    Name::go(h1, RECIPE)
}

/// Name of the driver.
pub(super) fn driver() -> Name {
    made(DRIVER_H1)
}

/// What a go command is called in lists.
pub(super) fn title(go: &str) -> String {
    format!("{go} go command")
}

/// Whether a go command can be made from this SDK, for this target and in this way.
///
/// # Errors
/// One sentence that says why not.
pub(super) fn check(request: &CellRequest, minor: u32) -> Result<(), String> {
    if minor >= STATIC_SINCE && request.sdk != DRIVER_H1 {
        return Err(format!("the go command of {} is used as it is", request.go));
    }
    if request.frozen || (request.goos.as_str(), request.goarch.as_str()) != ("linux", "amd64") {
        return Err("a go command is made for this machine and from nothing else".to_owned());
    }
    Ok(())
}

/// Arguments for making a go command.
pub(super) fn args(minor: u32) -> Vec<String> {
    let mut args = vec!["go_bootstrap".to_owned(), "build".to_owned()];
    args.push("-v".to_owned());
    // Symbols and debug information are of no use here, and differ with the driver.
    args.push("-ldflags=-buildid= -s -w".to_owned());
    args.extend(tags(minor).map(|tags| format!("-tags={tags}")));
    if minor >= STATIC_SINCE {
        args.push(format!("-overlay={}/{OVERLAY}/overlay.json", place::HOME));
    }
    args.extend(["-o".to_owned(), format!("{}/go", place::BIN)]);
    args.push("cmd/go".to_owned());
    args
}

/// Changes the environment of a build to that of making a go command: the sources lie in `GOROOT`,
/// where modules only stand in the way.
pub(super) fn change(environment: &mut Vec<(&'static str, String)>, minor: u32) {
    for (key, value) in environment.iter_mut() {
        match *key {
            "GO111MODULE" => "off".clone_into(value),
            "GOFLAGS" => value.clear(),
            _ => {}
        }
    }
    if minor <= OLD_ASSEMBLER_UNTIL {
        environment.push(("HOTCELL_ASM", "old".to_owned()));
    }
}

/// The files of the driver's SDK that are changed, and where the go command finds them.
///
/// # Errors
/// When the store cannot be read, or a file is not what it was.
pub(super) fn files(order: &Order) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut changed: BTreeMap<&str, String> = BTreeMap::new();
    for (path, from, to) in PATCHES {
        let text = match changed.remove(path) {
            Some(text) => text,
            None => store::read_file(&order.sdk, path, SOURCE_BYTES_MAX)
                .map_err(|error| error.to_string())?,
        };
        if text.matches(from).count() != 1 {
            return Err(format!("`{path}` is not the one that is to be changed"));
        }
        changed.insert(path, text.replacen(from, to, 1));
    }
    let mut replace = BTreeMap::new();
    let mut files = Vec::new();
    for (index, (path, text)) in changed.into_iter().enumerate() {
        let file = format!("{OVERLAY}/{index}.go");
        replace.insert(
            format!("{}/{path}", place::SDK),
            format!("{}/{file}", place::HOME),
        );
        files.push((file, text.into_bytes()));
    }
    let overlay = serde_json::json!({ "Replace": replace }).to_string();
    files.push((format!("{OVERLAY}/overlay.json"), overlay.into_bytes()));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_release_of_each_line_is_pinned() {
        for go in [
            "go1.13.15",
            "go1.14.15",
            "go1.15.15",
            "go1.16.15",
            "go1.17.13",
            "go1.18.10",
            "go1.19.13",
            "go1.20.14",
            DRIVER_GO,
        ] {
            assert!(pinned(go).is_some(), "{go}");
        }
        assert_eq!(pinned("go1.20.13"), None);
    }

    #[test]
    fn pins_are_hashes() {
        let digits = "0a".repeat(32);
        let with = |pin: &str| parse_pins(&format!("[h1]\n[go_command]\n\"go1.20\" = \"{pin}\"\n"));
        assert_eq!(with(&format!("sha256:{digits}")).unwrap()["go1.20"], digits);
        for wrong in [
            "",
            "sha256:",
            &digits,
            &format!("sha256:{digits}0"),
            "sha256:0A",
        ] {
            assert_eq!(with(wrong), None, "{wrong}");
        }
        assert_eq!(parse_pins("[h1]\n"), None);
    }

    #[test]
    fn the_environment_differs_where_it_must() {
        let all = || {
            vec![
                ("GO111MODULE", "on".to_owned()),
                ("GOFLAGS", "-mod=readonly".to_owned()),
            ]
        };
        let mut environment = all();
        change(&mut environment, 16);
        assert_eq!(
            environment,
            [
                ("GO111MODULE", "off".to_owned()),
                ("GOFLAGS", String::new())
            ]
        );
        let mut environment = all();
        change(&mut environment, 15);
        assert_eq!(environment[2], ("HOTCELL_ASM", "old".to_owned()));
    }

    #[test]
    fn arguments_are_those_of_the_line() {
        assert_eq!(
            args(16).join(","),
            "go_bootstrap,build,-v,-ldflags=-buildid= -s -w,-o,/home/go/bin/go,cmd/go"
        );
        assert!(args(18).contains(&format!("-tags={}", tags(18).unwrap())));
        assert!(
            args(21)
                .iter()
                .any(|arg| arg == "-overlay=/home/overlay/overlay.json")
        );
    }
}
