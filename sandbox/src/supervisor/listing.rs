//! How the commands of a module are listed: the go command looks at every package of it.
//!
//! Called for [`crate::wire::Job::List`]. `go list` takes no version; so a main module that
//! requires the one in question lies in the cell's home, and nothing else does. Nothing is
//! compiled, and no code of the module runs.

/// One line for each command: module, import path, first sentence of its documentation. The last
/// field says that nothing else was written into the line. What belongs to no module is the pattern
/// itself, where the module cannot be read at all.
const FORM: &str = "{{with .Module}}{{if eq $.Name \"main\"}}\
     command\t{{.Path}}\t{{$.ImportPath}}\t{{printf \"%.200s\" $.Doc}}\tend\
     {{end}}{{else}}{{with .Error}}fault\t{{.}}{{end}}{{end}}";

/// Arguments of the go command.
pub(super) fn args(module: &str) -> Vec<String> {
    let flags = ["go", "list", "-mod=mod", "-e", "-find", "-f", FORM];
    let pattern = format!("{module}/...");
    let flags = flags.into_iter().map(str::to_owned);
    flags.chain([pattern]).collect()
}

/// The main module, by its name below the home.
pub(super) fn files(module: &str, version: &str, go_minor: u32) -> Vec<(String, Vec<u8>)> {
    let text =
        format!("module hotcell.invalid/list\n\ngo 1.{go_minor}\n\nrequire {module} {version}\n");
    vec![("go.mod".to_owned(), text.into_bytes())]
}
