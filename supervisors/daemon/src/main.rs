//! The daemon: reads the configuration and joins everything. It is the only crate that knows all others.
#![forbid(unsafe_code)]

mod account;
mod admin;
mod agent;
mod arguments;
mod carriages;
mod cell;
mod cell_store;
mod clock;
mod config;
mod contents;
mod control;
mod host;
mod join;
mod learned;
mod notify;
mod openings;
mod ownership;
mod run;
mod standby;
mod telemetry;

use arguments::{Arguments, Verb};
use clap::Parser;
use std::io::Write;
use std::process::ExitCode;

/// Exit code for a wrong command line (sysexits.h: EX_USAGE).
const USAGE: u8 = 64;
/// Exit code for mistakes in the configuration (sysexits.h: EX_CONFIG).
const CONFIG: u8 = 78;

fn main() -> ExitCode {
    archipel_libvirt::memory::keep_small();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come here too; they are no mistake. A closed terminal cannot be told anything.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    if let Verb::Version(_) = arguments.verb {
        account::print(&format!("archipeld {}\n", env!("CARGO_PKG_VERSION")));
        return ExitCode::SUCCESS;
    }
    let environment = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
    let settings = match config::load(&arguments.config(), environment) {
        Ok(settings) => settings,
        Err(mistakes) => {
            for mistake in &mistakes {
                complain(mistake);
            }
            return ExitCode::from(CONFIG);
        }
    };
    if let Verb::Join(_) | Verb::Leave(_) = arguments.verb {
        match join::as_owner(&settings) {
            Ok(None) => {}
            Ok(Some(code)) => return code,
            Err(fault) => {
                complain(&fault);
                return ExitCode::from(fault.kind.exit_code());
            }
        }
    }
    let outcome = match &arguments.verb {
        Verb::CheckConfig(_) => Ok("the configuration is good\n".to_owned()),
        Verb::Account(account) => account::run(&settings, &account.verb, &mut std::io::stdin()),
        Verb::Join(join) => join::join(&settings, join),
        Verb::Leave(leave) => join::leave(&settings, leave.here_only),
        Verb::Run(_) => run::run(&settings).map(|()| String::new()),
        Verb::Version(_) => Ok(String::new()),
    };
    match outcome {
        Ok(text) => {
            account::print(&text);
            ExitCode::SUCCESS
        }
        Err(fault) => {
            complain(&fault);
            ExitCode::from(fault.kind.exit_code())
        }
    }
}

fn complain(what: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "archipeld: {what}");
}
