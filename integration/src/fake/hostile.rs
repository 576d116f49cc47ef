//! Modules that try to get at the machine that builds them: old build-time vulnerabilities of Go,
//! compilers made to take everything, zips that are more than they seem.

use std::fmt::Write as _;

use super::{Crafted, Module};

/// One module, and how its build has to end.
#[derive(Debug, Clone)]
pub struct Case {
    /// What is served.
    pub module: Module,
    /// Stable codes that are right; `success` when it builds like any other.
    pub codes: &'static [&'static str],
    /// Built with small limits, so that it ends soon.
    pub small: bool,
}

const OK: &[&str] = &["success"];
const FAILS: &[&str] = &["build_failed"];
const REFUSED: &[&str] = &["module_refused"];
/// A limit; or no words, for a compiler that gets no memory may crash before it can say so.
const BOUNDED: &[&str] = &["memory", "cpu", "wall_clock", "build_failed"];

const MAIN: &str = "package main\n\nfunc main() { println(\"hello\") }\n";

/// `evil.example/<name>` with these files, and a go.mod and main.go unless they are among them.
fn case(name: &str, codes: &'static [&'static str], files: &[(&str, &str)]) -> Case {
    let path = format!("evil.example/{name}");
    let mut module = Module::new(&path, "v1.0.0", files);
    for (file, text) in [
        ("go.mod", format!("module {path}\n\ngo 1.21\n")),
        ("main.go", MAIN.to_owned()),
    ] {
        if !files.iter().any(|(known, _)| *known == file) {
            module = module.file(file, text.as_bytes());
        }
    }
    Case {
        module,
        codes,
        small: false,
    }
}

/// With other lines in its go.mod.
fn go_mod(name: &str, codes: &'static [&'static str], lines: &str) -> Case {
    let text = format!("module evil.example/{name}\n\n{lines}\n");
    case(name, codes, &[("go.mod", &text)])
}

impl Case {
    fn small(mut self) -> Self {
        self.small = true;
        self
    }

    fn crafted(mut self, how: Crafted) -> Self {
        self.module = self.module.crafted(how);
        self
    }
}

/// All of them; `long` makes the large ones as large as module zips may be.
pub fn cases(long: bool) -> Vec<Case> {
    let mut all = toolchain_lines();
    all.extend(cgo());
    all.extend(reading());
    all.extend(beside());
    all.extend(zips());
    all.extend(names());
    all.extend(sources());
    all.extend(large(long));
    all
}

/// Lines of go.mod that once chose what is executed.
fn toolchain_lines() -> Vec<Case> {
    let script = "#!/bin/sh\ntouch /tmp/pwned\n";
    // CVE-2023-39320: a toolchain line named a script within the module.
    let relative = case(
        "toolchain-script",
        FAILS,
        &[
            (
                "go.mod",
                "module evil.example/toolchain-script\n\ngo 1.21\n\ntoolchain ../evil\n",
            ),
            ("evil", script),
            ("go1.99.0-evil/bin/go", script),
        ],
    );
    vec![
        relative,
        // Not looked at, as GOTOOLCHAIN is local.
        go_mod(
            "toolchain-path",
            OK,
            "go 1.21\n\ntoolchain go1.99.0-x/../../evil\n",
        ),
        go_mod("toolchain-newer", OK, "go 1.21\n\ntoolchain go1.99.0\n"),
        go_mod("toolchain-local", FAILS, "go 1.21\n\ntoolchain local\n"),
        go_mod("go-newer", &["needs_newer_go"], "go 1.99\n"),
        go_mod("godebug", OK, "go 1.24\n\ngodebug default=go1.21\n"),
        go_mod("godebug-unknown", OK, "go 1.24\n\ngodebug evil=1\n"),
        go_mod(
            "replace-path",
            &["replace_directives"],
            "go 1.21\n\nreplace evil.example/x v1.0.0 => ../../../../etc\n",
        ),
        go_mod("tool", OK, "go 1.24\n\ntool evil.example/tool/cmd/evil\n"),
    ]
}

/// Flags for compilers and linkers of C, which once ran plugins (CVE-2020-28367, CVE-2023-29402 to
/// 29405). There is no C compiler in a cell, and cgo is off.
fn cgo() -> Vec<Case> {
    let with = |name: &str, line: &str| {
        let text = format!("package main\n\n// #cgo {line}\nimport \"C\"\n\nfunc main() {{}}\n");
        case(
            name,
            &["no_go_files"],
            &[("main.go", &text), ("evil.so", "\u{7f}ELF")],
        )
    };
    let with_codes = |name: &str, codes, line: &str| {
        let text = format!("package main\n\n{line}\n\nfunc main() {{}}\n");
        case(name, codes, &[("main.go", &text)])
    };
    let pragma = |name: &str, line: &str| with_codes(name, FAILS, line);
    // Changes what the binary asks of the machine that runs it, and nothing here.
    let allowed = |name: &str, line: &str| with_codes(name, OK, line);
    vec![
        with("cgo-plugin", "CFLAGS: -fplugin=./evil.so"),
        with("cgo-gccgo", "LDFLAGS: -Wl,-plugin,./evil.so"),
        with("cgo-space", "LDFLAGS: -Xlinker -plugin -Xlinker ./evil.so"),
        with("cgo-pkg-config", "pkg-config: --log-file=/tmp/pwned"),
        pragma("ldflag", "//go:cgo_ldflag \"-fplugin=./evil.so\""),
        allowed(
            "import-dynamic",
            "//go:cgo_import_dynamic evil evil \"/tmp/evil.so\"",
        ),
        allowed(
            "dynamic-linker",
            "//go:cgo_import_dynamic _ _ \"/tmp/evil.so\"",
        ),
        case(
            "linkname",
            &["linkname_refused"],
            &[
                (
                    "main.go",
                    "package main\n\nimport _ \"unsafe\"\n\n//go:linkname evil runtime.gcStart\n\
                     func evil()\n\nfunc main() { evil() }\n",
                ),
                ("x.s", ""),
            ],
        ),
    ]
}

/// Compilers that are asked to read what is none of theirs.
fn reading() -> Vec<Case> {
    let assembled = |name: &str, path: &str| {
        let text = format!("#include \"{path}\"\n\nTEXT ·evil(SB), 0, $0\n\tRET\n");
        let main = "package main\n\nfunc evil()\n\nfunc main() { evil() }\n";
        case(name, FAILS, &[("evil_amd64.s", &text), ("main.go", main)])
    };
    let embedded = |name: &str, pattern: &str| {
        let main = format!(
            "package main\n\nimport _ \"embed\"\n\n//go:embed {pattern}\nvar text string\n\n\
             func main() {{ println(text) }}\n"
        );
        case(name, FAILS, &[("main.go", &main)])
    };
    let imported = |name: &str, path: &str| {
        let main = format!("package main\n\nimport _ \"{path}\"\n\nfunc main() {{}}\n");
        case(name, FAILS, &[("main.go", &main)])
    };
    let line = "package main\n\n//line /etc/passwd:1\nfunc main() { undefined_by_us() }\n";
    vec![
        assembled("asm-passwd", "/etc/passwd"),
        assembled("asm-up", "../../../../../../../../etc/passwd"),
        assembled("asm-environ", "/proc/self/environ"),
        assembled("asm-device", "/dev/zero"),
        embedded("embed-passwd", "/etc/passwd"),
        embedded("embed-up", "../../../../../etc/passwd"),
        embedded("embed-cache", "../../../../cache"),
        case("line", FAILS, &[("main.go", line)]),
        imported("import-path", "/etc"),
        imported("import-up", "../../../../etc"),
    ]
}

/// Files that some tool might obey.
fn beside() -> Vec<Case> {
    vec![
        case(
            "vendor",
            OK,
            &[
                (
                    "vendor/modules.txt",
                    "# evil.example/x v1.0.0\n## explicit\nevil.example/x\n",
                ),
                (
                    "vendor/evil.example/x/x.go",
                    "package x\n\nfunc init() { panic(1) }\n",
                ),
            ],
        ),
        case("work", OK, &[("go.work", "go 1.21\n\nuse ../../../..\n")]),
        case(
            "env",
            OK,
            &[("go.env", "GOFLAGS=-toolexec=/bin/sh\nGOTOOLCHAIN=path\n")],
        ),
        case(
            "generate",
            OK,
            &[(
                "main.go",
                "package main\n\n//go:generate sh -c \"touch /tmp/pwned\"\nfunc main() {}\n",
            )],
        ),
        case(
            "profile",
            FAILS,
            &[("default.pgo", "\u{1f}\u{8b}no profile")],
        ),
        case(
            "object",
            &["build_failed", "target_unsupported"],
            &[(
                "evil_linux_amd64.syso",
                "\u{7f}ELF\u{2}\u{1}\u{1} and no more",
            )],
        ),
    ]
}

/// Zips that are not what they say.
fn zips() -> Vec<Case> {
    let crafted = |name: &str, codes, how| case(name, codes, &[]).crafted(how);
    vec![
        // Not what its header says: the proxy has spoilt it.
        crafted("bomb", &["proxy"], Crafted::Bomb),
        crafted("overlap", &["verification"], Crafted::Overlap),
        crafted("too-large", REFUSED, Crafted::TooLarge),
        // Their attributes mean nothing to us: a regular file that holds a path is no Go.
        case("link", FAILS, &[("link.go", "/etc/passwd")]).crafted(Crafted::Special(0o120_777)),
        case("fifo", FAILS, &[("pipe.go", "")]).crafted(Crafted::Special(0o010_666)),
        case("setuid", OK, &[("tool", "")]).crafted(Crafted::Special(0o104_755)),
    ]
}

/// Names that a careless reader follows somewhere else.
fn names() -> Vec<Case> {
    let named = |name: &str, file: &str| case(name, REFUSED, &[(file, MAIN)]);
    let deep = |count: usize| format!("{}main.go", "d/".repeat(count));
    vec![
        named("up", "../evil.go"),
        named("up-inside", "a/../../evil.go"),
        named("absolute", "/etc/evil.go"),
        named("backslash", "a\\..\\evil.go"),
        named("drive", "c:evil.go"),
        named("zero-byte", "evil\0.go"),
        // CVE-2023-29402: a newline in a folder's name reached generated code.
        named("newline", "a\nb/evil.go"),
        named("device", "con.go"),
        named("dot", "a./evil.go"),
        named("empty-part", "a//evil.go"),
        named("too-deep", &deep(101)),
        case(
            "case",
            REFUSED,
            &[("a/x.go", "package a\n"), ("A/x.go", "package a\n")],
        ),
        case(
            "file-folder",
            REFUSED,
            &[("a", ""), ("a/x.go", "package a\n")],
        ),
        case(
            "twice",
            REFUSED,
            &[("a.go", "package main\n"), ("A.go", "package main\n")],
        ),
        case("deep", OK, &[(&deep(60), MAIN)]),
        case(
            "go-mod-inside",
            REFUSED,
            &[("GO.MOD", "module evil.example/other\n")],
        ),
    ]
}

/// Sources that make a compiler work for ever, or take all memory.
fn sources() -> Vec<Case> {
    let program = |name: &str, codes, body: &str| {
        let text = format!("package main\n\n{body}\n");
        case(name, codes, &[("main.go", &text)]).small()
    };
    let parentheses = 50_000;
    let nested = format!(
        "var x = {}1{}\n\nfunc main() {{}}",
        "(".repeat(parentheses),
        ")".repeat(parentheses)
    );
    let mut doubling = String::from("type T0 struct{ a int }\n");
    for level in 1..40 {
        let below = level - 1;
        writeln!(doubling, "type T{level} struct{{ a, b T{below} }}").expect("text grows");
    }
    doubling += "var x T39\n\nfunc main() { println(x.a.a.a.a.b.a.a.a.a.b.a.a.a.a.b.a.a.a.a.b) }";
    let zeros = "var x = [1 << 33]byte{1<<33 - 1: 1}\n\nfunc main() { println(x[5]) }";
    let cycle = "func f[T any](n int, x T) { if n > 0 { f[[2]T](n-1, [2]T{x, x}) } }\n\n\
                 func main() { f(9, 1) }";
    let mut errors = String::new();
    for number in 0..10 {
        let name = "x".repeat(20_000);
        writeln!(errors, "var _ = {name}{number}").expect("text grows");
    }
    errors += "func main() {}";
    vec![
        program("nested", &["success", "build_failed"], &nested),
        program(
            "shift",
            FAILS,
            "const c = 1 << 1000000000\n\nfunc main() { println(c) }",
        ),
        program(
            "doubling",
            &["wall_clock", "memory", "build_failed"],
            &doubling,
        ),
        program("instances", FAILS, cycle),
        program(
            "zeros",
            &["build_failed", "memory", "disk", "wall_clock"],
            zeros,
        ),
        program("words", &["output"], &errors),
        program("bytes", FAILS, "var x = \"\0\"\n\nfunc main() {}"),
    ]
}

/// Much of everything.
fn large(long: bool) -> Vec<Case> {
    let mut statements = String::from("package main\n\nfunc main() {\n\tm := map[string]int{}\n");
    for number in 0..if long { 2_000_000 } else { 300_000 } {
        writeln!(
            statements,
            "\tm[\"{number}\"] = len(m) ^ m[\"{}\"]",
            number / 2
        )
        .expect("grows");
    }
    statements += "}\n";
    let huge = case("huge-file", BOUNDED, &[("main.go", &statements)]).small();
    let (packages, imported) = if long {
        (100_000, 100_000)
    } else {
        (5_000, 100)
    };
    let mut main = String::from("package main\n\nimport (\n");
    for number in 0..imported {
        writeln!(main, "\t_ \"evil.example/packages/p{number}\"").expect("text grows");
    }
    main += ")\n\nfunc main() {}\n";
    let mut many = case("packages", OK, &[("main.go", &main)]);
    if long {
        many.codes = &[
            "success",
            "memory",
            "cpu",
            "wall_clock",
            "disk",
            "processes",
            "build_failed",
        ];
    }
    for number in 0..packages {
        let text = format!("package p{number}\n");
        many.module = many
            .module
            .file(&format!("p{number}/p.go"), text.as_bytes());
    }
    let mut lines = String::from("go 1.21\n\nrequire (\n");
    for number in 0..100_000 {
        writeln!(lines, "\tevil.example/r{number} v1.0.0").expect("text grows");
    }
    lines += ")\n";
    vec![huge, many, go_mod("requirements", REFUSED, &lines)]
}
