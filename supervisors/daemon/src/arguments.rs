//! The command line.

use archipel_contract::port::AccountKind;
use archipel_contract::{HypervisorName, Role};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// What is shown below the help, so that scripts can rely on it.
const EXITS: &str = "Exit codes: 0 done; 64 wrong usage; 66 no such account; 69 something needed is not available (a port, a folder, libvirt); \
70 a defect of ours; 73 exists already; 75 in use or too busy, try again; 77 not let in; 78 mistakes in the configuration.";

/// The daemon of Archipel: virtual machines as a conversation.
#[derive(Debug, Parser)]
#[command(name = "archipeld", version, after_help = EXITS, max_term_width = 120)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Options that may stand before and after the verb.
#[derive(Debug, Args)]
struct Common {
    /// A configuration file; later ones override earlier ones. Default: /etc/archipel/archipel.toml if it exists.
    #[arg(long = "config", value_name = "FILE")]
    config: Vec<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the daemon in the foreground until SIGTERM or SIGINT.
    Run(After),
    /// Check the configuration, and say everything that is wrong with it.
    CheckConfig(After),
    /// Accounts of the embedded XMPP server; also while the daemon runs.
    Account(Account),
    /// Join the cell of an exchange elsewhere as the agent of this host. An administrator there makes the token: archipel cell invite.
    Join(Join),
    /// Leave the cell this host joined: its certificate is given back and removed. Its virtual machines run on.
    Leave(Leave),
    /// Print the version.
    Version(After),
}

/// Where to join.
#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The exchange, HOST:PORT.
    #[arg(value_name = "EXCHANGE")]
    pub(crate) exchange: String,
    /// The token.
    pub(crate) token: String,
    /// The name of this hypervisor in the cell. Default: the one in the configuration, else that of the host.
    #[arg(long)]
    pub(crate) name: Option<HypervisorName>,
    #[command(flatten)]
    after: After,
}

/// How to leave.
#[derive(Debug, Args)]
pub(crate) struct Leave {
    /// Do not tell the exchange, because it is gone, or because this host is a copy of another one that stays.
    #[arg(long)]
    pub(crate) here_only: bool,
    #[command(flatten)]
    after: After,
}

/// The same options after the verb.
#[derive(Debug, Args)]
pub(crate) struct After {
    #[command(flatten)]
    common: Common,
}

/// `account` and its verbs.
#[derive(Debug, Args)]
pub(crate) struct Account {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    pub(crate) verb: AccountVerb,
}

/// What to do with accounts.
#[derive(Debug, Subcommand)]
pub(crate) enum AccountVerb {
    /// Add an account. Without --password-stdin a password is made up and printed.
    Add(Entry),
    /// Set the password (and with --role the role) of an account. Whoever is logged in with it is logged out.
    Passwd(Entry),
    /// Remove an account and its roster, and log it out.
    Remove(Name),
    /// List the accounts.
    List(After),
}

/// An account with its password and role.
#[derive(Debug, Args)]
pub(crate) struct Entry {
    /// The account: alice@vm.localhost, or only alice.
    pub(crate) jid: String,
    /// viewer (sees everything, changes nothing; the default), admin, admin-raw (an admin who may also write raw XML), or node
    /// (the agent of a hypervisor, named hv.NAME).
    #[arg(long, value_parser = kind)]
    pub(crate) role: Option<AccountKind>,
    /// Read the password from standard input; a line feed at its end does not belong to it.
    #[arg(long)]
    pub(crate) password_stdin: bool,
    #[command(flatten)]
    after: After,
}

/// Only the account.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The account: alice@vm.localhost, or only alice.
    pub(crate) jid: String,
    #[command(flatten)]
    after: After,
}

fn kind(text: &str) -> Result<AccountKind, String> {
    match text {
        "node" => Ok(AccountKind::Node),
        _ => {
            text.parse::<Role>().map(AccountKind::Person).map_err(|_| format!("{text:?} is not a role (viewer, admin, admin-raw or node)"))
        }
    }
}

impl Arguments {
    /// All configuration files, in the order in which they stood on the command line.
    pub(crate) fn config(&self) -> Vec<PathBuf> {
        let after: Vec<&Common> = match &self.verb {
            Verb::Run(after) | Verb::CheckConfig(after) | Verb::Version(after) => vec![&after.common],
            Verb::Join(join) => vec![&join.after.common],
            Verb::Leave(leave) => vec![&leave.after.common],
            Verb::Account(account) => {
                let last = match &account.verb {
                    AccountVerb::Add(entry) | AccountVerb::Passwd(entry) => &entry.after.common,
                    AccountVerb::Remove(name) => &name.after.common,
                    AccountVerb::List(after) => &after.common,
                };
                vec![&account.common, last]
            }
        };
        std::iter::once(&self.common).chain(after).flat_map(|common| common.config.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_files_count_before_and_after_the_verb_in_their_order() {
        let args =
            Arguments::try_parse_from(["archipeld", "--config", "a", "account", "--config", "b", "add", "x@y", "--config", "c"]).unwrap();
        assert_eq!(args.config(), ["a", "b", "c"].map(PathBuf::from));
        let args = Arguments::try_parse_from(["archipeld", "run", "--config", "b", "--config", "c"]).unwrap();
        assert_eq!(args.config(), ["b", "c"].map(PathBuf::from));
    }

    #[test]
    fn the_definition_is_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }
}
