//! The command line, made from the catalog: whatever the actors can do is here with its help, its completion and its checks,
//! and nothing is written twice.

use archipel_contract::catalog::{Argument, ArgumentKind, Catalog, CommandEntry};
use archipel_contract::{Bytes, Effect, Role, Target};
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command};
use clap_complete::Shell;
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::str::FromStr;

/// Shorter words for nouns, and the words people use.
const ALIASES: &[(&str, &[&str])] =
    &[("domain", &["vm"]), ("storage-pool", &["pool"]), ("hypervisor", &["hv"]), ("network", &["net"]), ("volume", &["vol"])];

const ABOUT: &[(&str, &str)] = &[
    ("cell", "The cell itself: which hosts belong to it, and who may join"),
    ("domain", "Virtual machines (also: vm)"),
    ("storage-pool", "Storage pools (also: pool)"),
    ("hypervisor", "Hypervisors (also: hv)"),
    ("network", "Virtual networks (also: net)"),
    ("interface", "Network cards and bridges of a host"),
    ("snapshot", "Snapshots of virtual machines"),
    ("backup", "Backups of virtual machines, which lie in storage pools"),
    ("checkpoint", "Points in time from which the next incremental backups are made"),
    ("nwfilter", "Network filters, which the cards of virtual machines go through"),
    ("volume", "Volumes: disk images in storage pools (also: vol)"),
    ("task", "Work that goes on after its command was answered"),
];

const AFTER: &str = "\
Login:
  ARCHIPEL_JID            who you are, for example admin@vm.localhost
  ARCHIPEL_PASSWORD_FILE  a file with your password (or ARCHIPEL_PASSWORD)
  ARCHIPEL_SERVER         HOST:PORT of the server, or of several exchanges, separated by commas (default: 127.0.0.1:5222 for a .localhost cell, else the cell itself)
  ARCHIPEL_PAGE           where the web server is that opens consoles and volumes, of every host (default: http:// on the server's host, port 8080)
  or the same as jid, password_file, server, page and fingerprint in ~/.config/archipel/cli.toml

Exit codes:
  0 done   64 usage or invalid request   65 wrong state   66 not found   69 unavailable or unsupported
  70 internal   73 conflict or ambiguous   75 busy, timeout or cancelled   77 forbidden or wrong password";

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// A command of the catalog.
    Call(Box<Call>),
    /// Follow every change.
    Events,
    /// Look at what machines take.
    Top {
        /// Only on this hypervisor.
        host: Option<String>,
        /// How often; for ever, if it is not said.
        count: Option<u64>,
    },
    /// Talk with an entity.
    Chat {
        /// Its name or address.
        target: String,
        /// Only on this hypervisor.
        host: Option<String>,
    },
    /// Print a completion script.
    Completion(Shell),
}

/// One command of the catalog with what was given.
#[derive(Debug)]
pub(crate) struct Call {
    /// Which one.
    pub(crate) entry: &'static CommandEntry,
    /// The name or address of its target, if it is not the cell.
    pub(crate) target: Option<String>,
    /// The hypervisor that narrows or chooses the target.
    pub(crate) host: Option<String>,
    /// Its arguments.
    pub(crate) arguments: Map<String, Value>,
    /// Do not ask.
    pub(crate) yes: bool,
    /// Follow the task it starts.
    pub(crate) wait: bool,
    /// What the contents of a volume are read from, or written to.
    pub(crate) file: Option<PathBuf>,
    /// Go on with a file that is there in part.
    pub(crate) resume: bool,
}

/// Everything on the command line.
#[derive(Debug)]
pub(crate) struct Args {
    /// One JSON document instead of text for people.
    pub(crate) json: bool,
    /// What is to be done.
    pub(crate) invocation: Invocation,
}

/// Whether a command answers with a task that goes on.
pub(crate) fn starts_task(entry: &CommandEntry) -> bool {
    entry.reply["title"] == "Started"
}

/// Whether a command chooses its hypervisor by `--host`, because its noun is not what it is sent to.
fn is_made_on_host(entry: &CommandEntry) -> bool {
    entry.target == Target::Hypervisor && entry.noun != "hypervisor"
}

/// What a command that opens the contents of a volume does with a file, when one is named.
fn does_with_file(entry: &CommandEntry) -> Option<&'static str> {
    match entry.name.as_str() {
        "volume.upload" => Some("Send this file (- for standard input), instead of printing a ticket for some other program"),
        "volume.download" => Some("Fetch into this file (- for standard output), instead of printing a ticket for some other program"),
        _ => None,
    }
}

/// Whether people may ask it at all: what agents say to each other is no verb.
fn is_for_people(entry: &CommandEntry) -> bool {
    entry.access != Role::Node
}

/// The whole grammar.
pub(crate) fn grammar(catalog: &'static Catalog) -> Command {
    let mut root = Command::new("archipel")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Talk with the virtual machines, networks, storage and hypervisors of an Archipel cell")
        .after_help(AFTER)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .max_term_width(120)
        .arg(
            Arg::new("json")
                .long("json")
                .global(true)
                .action(ArgAction::SetTrue)
                .help("Print one JSON document (events: one object a line) instead of text for people"),
        );
    let commands = || catalog.commands.iter().filter(|c| is_for_people(c));
    let mut nouns: Vec<&str> = Vec::new();
    for command in commands() {
        if !nouns.contains(&command.noun.as_str()) {
            nouns.push(&command.noun);
        }
    }
    for noun in nouns {
        let about = ABOUT.iter().find(|(n, _)| *n == noun).map_or("", |(_, about)| about);
        let aliases = ALIASES.iter().find(|(n, _)| *n == noun).map_or(&[][..], |(_, aliases)| aliases);
        let mut command =
            Command::new(noun).about(about).aliases(aliases.iter().copied()).subcommand_required(true).arg_required_else_help(true);
        for entry in commands().filter(|c| c.noun == noun) {
            command = command.subcommand(verb(entry));
        }
        root = root.subcommand(command);
    }
    root.subcommand(
        Command::new("events")
            .about("Follow every change of the cell, one line each, until interrupted")
            .long_about("Follow every change of the cell, one line each, until interrupted. After a lost connection it goes on where it was, or says on standard error that it took a snapshot because something may be missing."),
    )
    .subcommand(
        Command::new("top")
            .about("Show what machines and hosts take of processor, memory, disks and network, every two seconds, until interrupted")
            .long_about("Show what machines and hosts take of processor, memory, disks and network, every two seconds, until interrupted. 100 % is one CPU that is busy all the time. Nothing is measured while nobody looks. With --json one object a line for each host.")
            .arg(host_option("Only this hypervisor and its machines"))
            .arg(
                Arg::new("count")
                    .long("count")
                    .value_name("NUMBER")
                    .value_parser(clap::value_parser!(u64).range(1..))
                    .help("End after so many tables [default: until interrupted]"),
            ),
    )
    .subcommand(
        Command::new("chat")
            .about("Talk with a virtual machine or hypervisor; type help to see what it understands")
            .arg(Arg::new("target").required(true).value_name("NAME|UUID").help("Whom to talk with"))
            .arg(host_option("Only the one on this hypervisor")),
    )
    .subcommand(
        Command::new("completion")
            .about("Print a completion script, for example: archipel completion bash > /etc/bash_completion.d/archipel")
            .arg(Arg::new("shell").required(true).value_name("SHELL").value_parser(PossibleValuesParser::new(["bash", "zsh", "fish"]))),
    )
}

fn host_option(help: &'static str) -> Arg {
    Arg::new("host").long("host").value_name("HYPERVISOR").help(help)
}

fn verb(entry: &'static CommandEntry) -> Command {
    let mut command = Command::new(entry.verb.as_str()).about(entry.title.as_str()).long_about(long_about(entry));
    let mut position = 1;
    let target = match (entry.target, entry.noun.as_str()) {
        (Target::Cell, _) => None,
        (Target::Hypervisor, "hypervisor") => Some(("NAME", "The hypervisor's name")),
        (Target::Hypervisor, _) => None,
        (Target::Domain, _) => Some(("NAME|UUID", "Which virtual machine")),
        (Target::Network, _) => Some(("NAME|UUID", "Which network")),
        (Target::StoragePool, "storage-pool") => Some(("NAME|UUID", "Which storage pool")),
        (Target::StoragePool, _) => Some(("POOL", "The name or UUID of the storage pool")),
        (Target::Task, _) => Some(("ID", "The task's id")),
    };
    if let Some((value, help)) = target {
        command = command.arg(Arg::new("target").index(position).required(true).value_name(value).help(help));
        position += 1;
    }
    if is_made_on_host(entry) {
        command = command.arg(host_option("The hypervisor to do it on; not needed when there is only one"));
    } else if matches!(entry.target, Target::Domain | Target::Network | Target::StoragePool) {
        command = command.arg(host_option("Only the one on this hypervisor, when several have that name"));
    }
    for argument in &entry.arguments {
        if argument.required {
            // In its place, or by name: both are what people try.
            let (place, option) = (place_id(argument), argument.name.as_str());
            // Whoever opens what a ticket is for makes up the secret as well.
            let made_here = argument.name == "proof" && does_with_file(entry).is_some();
            command = command
                .arg(
                    value(Arg::new(place.clone()), argument)
                        .index(position)
                        .required_unless_present_any(std::iter::once(option).chain(made_here.then_some("file")))
                        .value_name(argument.name.to_uppercase())
                        .help(argument.description.as_str()),
                )
                .arg(value(Arg::new(option).long(option).conflicts_with(place).hide(true), argument));
            position += 1;
        } else {
            command = command.arg(optional(argument));
        }
    }
    if let Some(help) = does_with_file(entry) {
        command = command.arg(Arg::new("file").long("file").value_name("FILE").value_parser(clap::value_parser!(PathBuf)).help(help));
        if !entry.arguments.iter().any(|a| a.name == "resume") {
            let resume = Arg::new("resume").long("resume").action(ArgAction::SetTrue).requires("file");
            command = command.arg(resume.help("Go on with what is there of a file whose fetching was cut off"));
        }
    }
    if entry.effect == Effect::Destroy {
        command = command.arg(Arg::new("yes").long("yes").short('y').action(ArgAction::SetTrue).help("Do not ask before doing it"));
    }
    if starts_task(entry) {
        command = command.arg(
            Arg::new("wait")
                .long("wait")
                .action(ArgAction::SetTrue)
                .help("Follow the work until it ends; interrupting ends only the following"),
        );
    }
    command
}

fn place_id(argument: &Argument) -> String {
    format!("place:{}", argument.name)
}

fn long_about(entry: &CommandEntry) -> String {
    let mut text = entry.description.clone();
    let refused: Vec<String> = entry
        .policy
        .iter()
        .filter_map(|(state, verdict)| match verdict {
            archipel_contract::Verdict::Allowed => None,
            archipel_contract::Verdict::Refused(reason) => Some(format!("  {state}: {reason}")),
        })
        .collect();
    if !refused.is_empty() {
        text.push_str("\n\nNot possible in these states:\n");
        text.push_str(&refused.join("\n"));
    }
    text.push_str(&format!("\n\nNeeds the role {}.", entry.access.name()));
    text
}

fn value(arg: Arg, argument: &'static Argument) -> Arg {
    match argument.kind {
        ArgumentKind::Text => arg,
        ArgumentKind::Integer => {
            let (least, most) = (argument.minimum.unwrap_or(i64::MIN), argument.maximum.unwrap_or(i64::MAX));
            arg.value_parser(clap::value_parser!(i64).range(least..=most))
        }
        ArgumentKind::Bytes => arg.value_parser(|text: &str| Bytes::from_str(text).map(|b| b.0)),
        ArgumentKind::Boolean => arg.value_parser(["true", "false"]),
        ArgumentKind::Choice => {
            arg.value_parser(PossibleValuesParser::new(argument.choices.iter().map(String::as_str).collect::<Vec<_>>()))
        }
    }
}

fn optional(argument: &'static Argument) -> Arg {
    let mut help = argument.description.clone();
    let default = argument.default.as_ref().and_then(|default| match (argument.kind, default) {
        (ArgumentKind::Bytes, Value::Number(n)) => n.as_u64().map(|n| Bytes(n).to_string()),
        (ArgumentKind::Boolean, Value::Bool(false)) | (_, Value::Null) => None,
        (_, Value::String(text)) if text.is_empty() => None,
        (_, Value::String(text)) => Some(text.clone()),
        (_, other) => Some(other.to_string()),
    });
    if let Some(default) = default {
        help.push_str(&format!(" [default: {default}]"));
    }
    // Options are written with hyphens; the name on the wire is taken as well.
    let arg = Arg::new(argument.name.as_str()).long(argument.name.replace('_', "-")).alias(argument.name.as_str());
    let arg = value(arg, argument).help(help);
    match argument.kind {
        // `--paused` and `--paused=false`; a word that follows belongs to nobody, so that `start --paused web1` means web1.
        ArgumentKind::Boolean if argument.default == Some(Value::Bool(false)) => {
            arg.num_args(0..=1).require_equals(true).default_missing_value("true").hide_possible_values(true).value_name("BOOL")
        }
        ArgumentKind::Boolean => arg.value_name("BOOL"),
        ArgumentKind::Bytes => arg.value_name("SIZE"),
        ArgumentKind::Integer => arg.value_name("NUMBER"),
        ArgumentKind::Text => arg.value_name("TEXT").allow_hyphen_values(true),
        ArgumentKind::Choice => arg,
    }
}

fn given(matches: &ArgMatches, argument: &Argument) -> Option<Value> {
    let place = place_id(argument);
    let id = if argument.required && matches.contains_id(&place) { place.as_str() } else { argument.name.as_str() };
    match argument.kind {
        ArgumentKind::Text | ArgumentKind::Choice => matches.get_one::<String>(id).map(|s| Value::from(s.as_str())),
        ArgumentKind::Integer => matches.get_one::<i64>(id).map(|n| Value::from(*n)),
        ArgumentKind::Bytes => matches.get_one::<u64>(id).map(|n| Value::from(*n)),
        ArgumentKind::Boolean => matches.get_one::<String>(id).map(|s| Value::from(s == "true")),
    }
}

/// Reads the command line. The error prints itself (usage, `--help`, `--version`).
pub(crate) fn parse(catalog: &'static Catalog, args: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Args, clap::Error> {
    let mut grammar = grammar(catalog);
    let matches = grammar.try_get_matches_from_mut(args)?;
    let missing = |grammar: &mut Command| grammar.error(clap::error::ErrorKind::MissingSubcommand, "say what to do; see archipel --help");
    let Some((noun, rest)) = matches.subcommand() else { return Err(missing(&mut grammar)) };
    let text = |matches: &ArgMatches, id: &str| matches.get_one::<String>(id).cloned();
    let invocation = match noun {
        "events" => Invocation::Events,
        "top" => Invocation::Top { host: text(rest, "host"), count: rest.get_one::<u64>("count").copied() },
        "chat" => Invocation::Chat { target: text(rest, "target").unwrap_or_default(), host: text(rest, "host") },
        "completion" => Invocation::Completion(text(rest, "shell").and_then(|s| s.parse().ok()).unwrap_or(Shell::Bash)),
        noun => {
            let Some((verb, rest)) = rest.subcommand() else { return Err(missing(&mut grammar)) };
            let Some(entry) = catalog.find(&format!("{noun}.{verb}")) else { return Err(missing(&mut grammar)) };
            let own = |id: &str| entry.arguments.iter().any(|a| a.name == id);
            // Not `try_contains_id`: in a release build clap says of an argument that this command does not have that it is fine.
            let given_here = |id: &str| rest.ids().any(|known| known.as_str() == id);
            Invocation::Call(Box::new(Call {
                entry,
                target: (given_here("target") && entry.target != Target::Cell).then(|| text(rest, "target")).flatten(),
                host: (given_here("host") && !own("host")).then(|| text(rest, "host")).flatten(),
                arguments: entry.arguments.iter().filter_map(|a| given(rest, a).map(|v| (a.name.clone(), v))).collect(),
                yes: entry.effect == Effect::Destroy && rest.get_flag("yes"),
                wait: starts_task(entry) && rest.get_flag("wait"),
                file: does_with_file(entry).and_then(|_| rest.get_one::<PathBuf>("file").cloned()),
                resume: given_here("resume") && !own("resume") && rest.get_flag("resume"),
            }))
        }
    };
    // A global flag is found wherever it stood.
    let json = rest_json(&matches);
    Ok(Args { json, invocation })
}

fn rest_json(matches: &ArgMatches) -> bool {
    matches.get_flag("json") || matches.subcommand().is_some_and(|(_, rest)| rest_json(rest))
}

#[cfg(test)]
mod tests;
