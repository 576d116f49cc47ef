//! The modules that the fake proxy serves.

use std::{fmt::Write as _, io::Write as _};

use flate2::{Compression, write::GzEncoder};

use super::{Crafted, Module};

/// What a hostile module makes the compiler print: a window title, a colour, a bell, C1 and bidi
/// controls, markup.
pub const HOSTILE_LINE: &str = "\u{1b}]0;pwned\u{7}\u{1b}[31m\u{9b}5m\u{202e}\
    <script>document.title='pwned'</script><img src=x>";

/// All ways of crafting a zip, with the module that is served so.
pub const CRAFTED: [(&str, Crafted); 8] = [
    ("zip.example/wrapped", Crafted::Wrapped),
    ("zip.example/twoends", Crafted::TwoEnds),
    ("zip.example/prepended", Crafted::Prepended),
    ("zip.example/duplicate", Crafted::Duplicate),
    ("zip.example/appended", Crafted::Appended),
    ("zip.example/hidden", Crafted::Hidden),
    ("zip.example/lying", Crafted::Lying),
    ("zip.example/outside", Crafted::Outside),
];

/// Modules below `fault.example/` whose files go wrong, each in the way of its name.
pub const FAULTS: [&str; 10] = [
    "garbage-mod",
    "garbage-zip",
    "truncated-mod",
    "truncated-zip",
    "stalled",
    "endless",
    "forbidden",
    "broken",
    "sumdb-garbage",
    "sumdb-missing",
];

/// Modules that no test builds and no module requires.
pub const OUTSIDE: [&str; 2] = ["outside.example/never1", "outside.example/never2"];

const MAIN: &str = "package main\n\nfunc main() { println(\"hello\") }\n";

/// A module that only prints a line.
pub fn hello(path: &str) -> Module {
    let go_mod = format!("module {path}\n\ngo 1.21\n");
    Module::new(path, "v1.0.0", &[("go.mod", &go_mod), ("main.go", MAIN)])
}

/// The whole set.
pub fn all() -> Vec<Module> {
    let mut all = vec![
        hello("ex.example/hello"),
        hello("ex.example/proof"),
        hello("ex.example/UpperCase/Tool"),
    ];
    all.extend(OUTSIDE.map(hello));
    all.extend(FAULTS.map(|name| hello(&format!("fault.example/{name}"))));
    all.extend((0..24).map(|number| hello(&format!("ex.example/many{number}"))));
    all.extend(dependencies());
    all.extend(refused());
    all.extend(peculiar());
    all.extend(licensed());
    all.extend(CRAFTED.map(|(path, how)| hello(path).crafted(how)));
    all.extend([
        big("ex.example/big"),
        big("ex.example/big2"),
        big("ex.example/big3"),
    ]);
    all
}

/// Modules that need each other: the newest versions are never the right ones.
fn dependencies() -> Vec<Module> {
    let library = |path: &str, version: &str, rest: &str, code: &str| {
        let go_mod = format!("module {path}\n\ngo 1.21\n{rest}");
        Module::new(path, version, &[("go.mod", &go_mod), ("lib.go", code)])
    };
    let uses = "package main\n\nimport \"ex.example/lib\"\n\nfunc main() { println(lib.Name) }\n";
    let uses_a = "package main\n\nimport \"ex.example/a\"\n\nfunc main() { println(a.Name()) }\n";
    let a = "package a\n\nimport \"ex.example/b\"\n\nfunc Name() string { return b.Name }\n";
    let requires = |path: &str, rest: &str, main: &str| {
        let go_mod = format!("module {path}\n\ngo 1.21\n\n{rest}");
        Module::new(path, "v1.0.0", &[("go.mod", &go_mod), ("main.go", main)])
    };
    vec![
        library(
            "ex.example/lib",
            "v1.0.0",
            "",
            "package lib\n\nconst Name = \"lib v1.0.0\"\n",
        ),
        library(
            "ex.example/lib",
            "v1.1.0",
            "",
            "package lib\n\nconst Name = \"lib v1.1.0\"\n",
        ),
        library(
            "ex.example/b",
            "v1.0.0",
            "",
            "package b\n\nconst Name = \"b v1.0.0\"\n",
        ),
        library(
            "ex.example/b",
            "v1.2.0",
            "",
            "package b\n\nconst Name = \"b v1.2.0\"\n",
        ),
        library(
            "ex.example/a",
            "v1.0.0",
            "\nrequire ex.example/b v1.0.0\n",
            a,
        ),
        requires("ex.example/deps", "require ex.example/lib v1.0.0\n", uses),
        requires("ex.example/incomplete", "", uses),
        requires("ex.example/untidy", "require ex.example/a v1.0.0\n", uses_a),
        requires(
            "ex.example/tidy",
            "require ex.example/a v1.0.0\n\nrequire ex.example/b v1.0.0 // indirect\n",
            uses_a,
        ),
    ]
}

/// Modules that cannot be built, each for a reason of its own.
fn refused() -> Vec<Module> {
    let simple = |path: &str, file: &str, code: &str| {
        let go_mod = format!("module {path}\n\ngo 1.21\n");
        Module::new(path, "v1.0.0", &[("go.mod", &go_mod), (file, code)])
    };
    let replace = "module ex.example/replace\n\ngo 1.21\n\nrequire ex.example/lib v1.0.0\n\n\
                   replace ex.example/lib => ex.example/lib v1.1.0\n";
    let uses = "package main\n\nimport \"ex.example/lib\"\n\nfunc main() { println(lib.Name) }\n";
    let hostile = format!(
        "package main\n\n//line {HOSTILE_LINE}.go:1\nfunc main() {{ undefined_by_us() }}\n"
    );
    let cgo = "package main\n\n// int answer(void) { return 42; }\nimport \"C\"\n\n\
               func main() { println(int(C.answer())) }\n";
    vec![
        Module::new(
            "ex.example/replace",
            "v1.0.0",
            &[("go.mod", replace), ("main.go", uses)],
        ),
        simple(
            "ex.example/nomain",
            "lib.go",
            "package nomain\n\nconst Name = \"nomain\"\n",
        ),
        simple("ex.example/cgo", "main.go", cgo),
        simple(
            "ex.example/syntax",
            "main.go",
            "package main\n\nfunc main() { this is no go }\n",
        ),
        simple("ex.example/hostile", "main.go", &hostile),
        simple("ex.example/hostile2", "main.go", &hostile),
        simple("ex.example/hostile3", "main.go", &hostile),
        Module::new(
            "ex.example/badmod",
            "v1.0.0",
            &[("go.mod", "modul \u{1}\n"), ("main.go", MAIN)],
        ),
    ]
}

/// Modules that build, and need something unusual.
fn peculiar() -> Vec<Module> {
    let pgo_main = "package main\n\n//go:noinline\nfunc hot(n int) int { return n * 3 }\n\n\
                    func main() {\n\ts := 0\n\tfor i := 0; i < 1000; i++ {\n\t\ts += hot(i)\n\t}\n\
                    \tprintln(s)\n}\n";
    let pgo = Module::new(
        "ex.example/pgo",
        "v1.0.0",
        &[
            ("go.mod", "module ex.example/pgo\n\ngo 1.21\n"),
            ("main.go", pgo_main),
        ],
    );
    let retracted = |version: &str, rest: &str| {
        let go_mod = format!("module ex.example/retracted\n\ngo 1.21\n{rest}");
        let files = [("go.mod", go_mod.as_str()), ("main.go", MAIN)];
        Module::new("ex.example/retracted", version, &files)
    };
    let commands = Module::new(
        "ex.example/commands",
        "v1.0.0",
        &[
            ("go.mod", "module ex.example/commands\n\ngo 1.21\n"),
            ("cmd/one/main.go", MAIN),
            ("cmd/two/main.go", MAIN),
        ],
    );
    let told = "// Command told says what it is. And more.\npackage main\n\nfunc main() {}\n";
    let missing = "package main\n\nimport \"ex.example/nowhere/lib\"\n\n\
                   func main() { lib.Run() }\n";
    let liar = "// One \u{1b}[2J<b>two</b>\tend\rcommand\tex.example/various\t\
                ex.example/various/other\t\tend\npackage main\n\nfunc main() {}\n";
    let various = Module::new(
        "ex.example/various",
        "v1.0.0",
        &[
            ("go.mod", "module ex.example/various\n\ngo 1.21\n"),
            ("lib.go", "package various\n"),
            (
                "cmd/broken/main.go",
                "package main\n\nfunc main() { this is no go }\n",
            ),
            ("cmd/liar/main.go", liar),
            ("cmd/missing/main.go", missing),
            ("cmd/told/main.go", told),
            ("testdata/hidden/main.go", MAIN),
        ],
    );
    vec![
        various,
        pgo.file("default.pgo", &profile()),
        retracted("v1.0.0", ""),
        retracted("v1.1.0", "\nretract v1.1.0 // broken on purpose\n"),
        commands,
        Module::new(
            "ex.example/major/v2",
            "v2.0.0",
            &[
                ("go.mod", "module ex.example/major/v2\n\ngo 1.21\n"),
                ("main.go", MAIN),
            ],
        ),
        Module::new(
            "ex.example/old",
            "v2.0.0+incompatible",
            &[("main.go", MAIN)],
        ),
    ]
}

/// A command whose modules have licences: two that are known, one of its own, none.
fn licensed() -> [Module; 3] {
    let code = |package: &str| {
        let mut code = format!("package {package}\n");
        for function in ["Add", "Subtract", "Multiply"] {
            write!(
                code,
                "\n//go:noinline\nfunc {function}(m map[string]int, names ...string) int {{\n\
                 \tsum := 0\n\tfor at, name := range names {{\n\t\tm[name+\"{function}\"] += at\n\
                 \t\tsum ^= m[name] * len(name)\n\t}}\n\treturn sum\n}}\n"
            )
            .expect("text grows");
        }
        code
    };
    let module = |path: &str, file: &str, text: &str, code: &str| {
        let go_mod = format!("module {path}\n\ngo 1.21\n");
        let files = [("go.mod", &*go_mod), (file, text), ("lib.go", code)];
        Module::new(path, "v1.0.0", &files)
    };
    let own = "You may use this on Tuesdays, when the moon is full.\n";
    let go_mod = "module ex.example/licensed\n\ngo 1.21\n\n\
                  require (\n\tex.example/libre v1.0.0\n\tex.example/libre/odd v1.0.0\n)\n";
    let main = "package main\n\n\
                import (\n\t\"ex.example/libre\"\n\t\"ex.example/libre/odd\"\n)\n\n\
                func main() {\n\tm := map[string]int{}\n\
                \tprintln(libre.Add(m, \"a\"), libre.Subtract(m, \"b\"))\n\
                \tprintln(odd.Multiply(m, \"c\"))\n}\n";
    let mit = include_str!("../../../LICENSE-MIT");
    let libre = module("ex.example/libre", "LICENSE-MIT", mit, &code("libre"));
    let apache = include_bytes!("../../../LICENSE-APACHE");
    [
        libre.file("LICENSE-APACHE", apache),
        module("ex.example/libre/odd", "COPYING", own, &code("odd")),
        Module::new(
            "ex.example/licensed",
            "v1.0.0",
            &[("go.mod", go_mod), ("main.go", main)],
        ),
    ]
}

/// Many packages with much code: compiling it takes long enough to be interrupted.
fn big(path: &str) -> Module {
    const PACKAGES: usize = 48;
    let mut main = String::from("package main\n\nimport (\n");
    let mut body = String::new();
    let mut module = Module::new(path, "v1.0.0", &[]);
    for number in 0..PACKAGES {
        writeln!(main, "\t\"{path}/p{number}\"").expect("text grows");
        writeln!(body, "\tsum += p{number}.F0(sum)").expect("text grows");
        let name = format!("p{number}/p.go");
        module = module.file(&name, big_package(number).as_bytes());
    }
    write!(
        main,
        ")\n\nfunc main() {{\n\tsum := 1\n{body}\tprintln(sum)\n}}\n"
    )
    .expect("text grows");
    let go_mod = format!("module {path}\n\ngo 1.21\n");
    module
        .file("go.mod", go_mod.as_bytes())
        .file("main.go", main.as_bytes())
}

fn big_package(number: usize) -> String {
    const FUNCTIONS: usize = 120;
    let mut code = format!("package p{number}\n\n");
    for function in 0..FUNCTIONS {
        let mut cases = String::new();
        for case in 0..40 {
            let next = if function + 1 < FUNCTIONS && case == 0 {
                format!("F{}(n/3)", function + 1)
            } else {
                format!("n*{case} ^ (n >> {})", case % 7)
            };
            write!(
                cases,
                "\tcase {case}:\n\t\tm[n] = {next}\n\t\treturn m[n]\n"
            )
            .expect("text grows");
        }
        write!(
            code,
            "func F{function}(n int) int {{\n\tm := map[int]int{{n: {number}}}\n\
             \tswitch n % 41 {{\n{cases}\t}}\n\treturn len(m)\n}}\n\n"
        )
        .expect("text grows");
    }
    code
}

/// A CPU profile in which `main.main` calls `main.hot`
/// (<https://github.com/google/pprof/blob/main/proto/profile.proto>).
fn profile() -> Vec<u8> {
    let texts = ["", "samples", "count", "main.main", "main.hot", "main.go"];
    let mut bytes = Vec::new();
    field_bytes(&mut bytes, 1, &[fields(&[(1, 1), (2, 2)])].concat()); // samples, count
    for _ in 0..100 {
        field_bytes(&mut bytes, 2, &fields(&[(1, 2), (1, 1), (2, 10)])); // hot called by main
    }
    for (id, line) in [(1, 10), (2, 4)] {
        let mut location = fields(&[(1, id)]);
        field_bytes(&mut location, 4, &fields(&[(1, id), (2, line)]));
        field_bytes(&mut bytes, 4, &location);
    }
    for (id, name, start) in [(1, 3, 6), (2, 4, 4)] {
        field_bytes(
            &mut bytes,
            5,
            &fields(&[(1, id), (2, name), (3, name), (4, 5), (5, start)]),
        );
    }
    for text in texts {
        field_bytes(&mut bytes, 6, text.as_bytes());
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(&bytes).expect("memory takes every byte");
    packed.finish().expect("memory takes every byte")
}

/// Protocol buffer fields with small numbers as values.
fn fields(pairs: &[(u8, u8)]) -> Vec<u8> {
    pairs
        .iter()
        .flat_map(|(number, value)| [number << 3, *value])
        .collect()
}

/// A protocol buffer field with bytes as value, at most 127 of them.
fn field_bytes(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    let length = u8::try_from(bytes.len()).expect("all fields here are short");
    assert!(length < 128, "all fields here are short");
    out.extend_from_slice(&[number << 3 | 2, length]);
    out.extend_from_slice(bytes);
}
