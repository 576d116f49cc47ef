//! The program. A role is started before anything else happens: no thread, no parsing.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(hotcell::roles::ARGUMENT) {
        let role = arguments.next();
        return hotcell::roles::run(role.as_deref(), &arguments.collect::<Vec<_>>());
    }
    hotcell::cli::main()
}
