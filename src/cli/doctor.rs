//! `hotcell doctor`: what this machine has and lacks, and what to do.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{Network, Stop, local::Local, print, xdg};
use crate::doctor::{Finding, State, kernel, machine, outside};

/// The policy under which a program that is no Go program can begin.
const POLICY: &str = "probe";

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Also look at the folder of a service
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// One JSON document on stdout
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) fn run(self, network: &Network) -> Result<(), Stop> {
        let mut folders = vec![("disk of the cache", xdg("XDG_CACHE_HOME", ".cache")?)];
        folders.extend(
            self.data
                .clone()
                .map(|folder| ("disk of the service", folder)),
        );
        // First, as attempts are made in children: this process has one thread until roles start.
        let mut all = kernel::findings();
        all.extend(machine::findings(&folders));
        all.extend(roles(network));
        self.show(&all)
    }

    fn show(&self, all: &[Finding]) -> Result<(), Stop> {
        let no_cell = all.iter().any(|finding| finding.no_cell);
        if self.json {
            print(json!({ "cells": !no_cell, "findings": all }))?;
        } else {
            for finding in all {
                let word = finding.state.word();
                print(format_args!("{word:8}{}: {}", finding.what, finding.says))?;
                if finding.state != State::Ok {
                    print(format_args!("        → {}", finding.todo))?;
                }
            }
        }
        if no_cell {
            return Err(Stop::new(
                Stop::FAILED,
                "no cell can be made on this machine",
            ));
        }
        Ok(())
    }
}

/// Starts the roles; says why when they do not start.
fn roles(network: &Network) -> Vec<Finding> {
    let local = match Local::start(network, Some(Path::new(POLICY)), false) {
        Ok(local) => local,
        Err(stop) if stop.code == Stop::USAGE => {
            let todo = stop.hint.unwrap_or_else(|| "see hotcell --help".to_owned());
            return vec![Finding::bad("configuration", stop.text, todo)];
        }
        Err(stop) => return vec![did_not_start(stop)],
    };
    let asked = local.run(async |engine| Ok(outside::findings(&engine).await));
    asked.unwrap_or_else(|stop| vec![did_not_start(stop)])
}

fn did_not_start(stop: Stop) -> Finding {
    let todo = "mend what is bad above; a cell needs namespaces, Landlock and seccomp";
    let todo = stop.hint.unwrap_or_else(|| todo.to_owned());
    Finding::no_cell("roles", format!("they do not start: {}", stop.text), todo)
}
