//! A file below a command line: what the line gives counts.

use std::{collections::BTreeSet, ffi::OsString, path::Path};

use clap::{CommandFactory as _, parser::ValueSource};

use super::{super::Cli, Live, Network, Serve, Stop, keys::Keys, load};

/// The options of `serve` by the command line of this process and the file that it names.
///
/// # Errors
/// When the file cannot be read, has mistakes, which were told by then, or contradicts the line.
pub(in crate::cli) fn with_file(path: &Path) -> Result<(Serve, Network, Live), Stop> {
    let (settings, folder) = load(path)?;
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let given = given(&arguments).map_err(|error| Stop::new(Stop::USAGE, error))?;
    let merged = settings.over(arguments.clone(), &given);
    let (serve, network) = merged.map_err(|text| {
        let text = format!("`{}` and the command line: {text}", path.display());
        Stop::new(Stop::USAGE, text)
    })?;
    let live = Live::new(path, folder, arguments, given, settings);
    Ok((serve, network, live))
}

/// Keys that stand on the command line.
pub(super) fn given(arguments: &[OsString]) -> Result<BTreeSet<String>, clap::Error> {
    let matches = Cli::command().try_get_matches_from(arguments)?;
    let keys = Keys::new();
    let Some(serve) = matches.subcommand_matches("serve") else {
        return Ok(BTreeSet::new());
    };
    let given = keys
        .all()
        .filter(|key| serve.value_source(key.id()) == Some(ValueSource::CommandLine));
    Ok(given.map(|key| key.name.to_owned()).collect())
}
