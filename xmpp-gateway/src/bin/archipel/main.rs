//! `archipel`: the command line of a cell. It is an ordinary XMPP client and needs no libvirt.
//!
//! | file | does |
//! |---|---|
//! | `args.rs` | makes the grammar from the catalog and reads the command line |
//! | `login.rs` | finds out who logs in where |
//! | `resolve.rs` | turns names into addresses |
//! | `run.rs` | sends the command and prints the answer |
//! | `follow.rs` | the stream of events, and tasks to their end |
//! | `chat.rs` | conversations |
//! | `top.rs` | what machines take, live |
//! | `console.rs` `websocket.rs` | the serial console in the terminal |
//! | `transfer.rs` | the contents of volumes from and to files |
//! | `page.rs` | the web server that opens what tickets are for |
//! | `output.rs` | tables, details and JSON |
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod args;
mod chat;
mod console;
mod follow;
mod login;
mod output;
mod page;
mod resolve;
mod run;
mod top;
mod transfer;
mod websocket;

use archipel_contract::{Fault, FaultKind, catalog::Catalog};
use args::Invocation;
use std::process::ExitCode;

fn main() -> ExitCode {
    let catalog = Catalog::shipped();
    let args = match args::parse(catalog, std::env::args_os()) {
        Ok(args) => args,
        Err(error) => {
            // Help and version are no mistakes; nobody may be reading either.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(FaultKind::InvalidRequest.exit_code()) } else { ExitCode::SUCCESS };
        }
    };
    if let Invocation::Completion(shell) = args.invocation {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut args::grammar(catalog), "archipel", &mut script);
        let _ = std::io::Write::write_all(&mut std::io::stdout(), &script);
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(run::run(args));
            // A thread may still wait for a line from the terminal; nobody waits for that thread.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(Fault::internal("the program could not be started").because(error)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            follow::say(&output::printable(&fault.to_string()));
            ExitCode::from(fault.kind.exit_code())
        }
    }
}
