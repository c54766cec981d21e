//! Carries out what the command line says.

use crate::args::{Args, Call, Invocation, starts_task};
use crate::login::{self, Login, Surroundings};
use crate::output::{self, Style};
use crate::transfer::Transfer;
use crate::{chat, console, follow, resolve, top};
use archipel_contract::{Effect, Fault, OperationId, Target};
use archipel_xmpp::client::{Client, Config, Connector, DEADLINE, Incoming, Tcp};
use serde_json::Value;
use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

/// Everything after the command line was read.
pub(crate) async fn run(args: Args) -> Result<(), Fault> {
    let variable = |name: &str| std::env::var(name).ok();
    let style = Style::of(args.json, &variable);
    let login = Login::read(&Surroundings { variable: &variable, folder: login::folder(&variable) })?;
    for warning in &login.warnings {
        follow::say(warning);
    }
    match args.invocation {
        Invocation::Call(call) => call_command(&login, *call, style).await,
        Invocation::Events => {
            let (client, incoming) = connect(&login, true).await?;
            follow::events(client, incoming, &login.cell, style).await
        }
        Invocation::Chat { target, host } => {
            let (client, incoming) = connect(&login, true).await?;
            let jid = resolve::anybody(&client, &login.cell, &target, host.as_deref()).await?;
            let ended = chat::talk(&client, incoming, &jid, &target).await;
            client.close().await;
            ended
        }
        Invocation::Top { host, count } => {
            let host =
                host.map(|host| host.parse()).transpose().map_err(|e: archipel_contract::id::BadId| Fault::invalid(e.to_string()))?;
            let (client, incoming) = connect(&login, true).await?;
            let ended = tokio::select! {
                ended = top::look(&client, incoming, &login.cell, host, count, style) => ended,
                _ = tokio::signal::ctrl_c() => Ok(()),
            };
            client.close().await;
            ended
        }
        // Printed before anybody logs in.
        Invocation::Completion(_) => Ok(()),
    }
}

async fn connect(login: &Login, lasting: bool) -> Result<(Client, Incoming), Fault> {
    let several = login.servers.len() > 1;
    let mut connectors = login.servers.iter().map(|server| {
        let tcp = Tcp::new(server.as_str(), Some(login.trust.clone()));
        Arc::new(if several { tcp.one_of_several() } else { tcp }) as Arc<dyn Connector>
    });
    let first = connectors.next().ok_or_else(|| Fault::invalid("ARCHIPEL_SERVER names no address"))?;
    let kind = if lasting { Config::lasting } else { Config::once };
    let config = kind(login.user.as_str(), login.domain.as_str(), login.password.as_str(), first).with_others(connectors.collect());
    Client::connect(config).await
}

async fn call_command(login: &Login, call: Call, style: Style) -> Result<(), Fault> {
    let follows = call.wait && starts_task(call.entry);
    let (client, incoming) = connect(login, follows).await?;
    let ended = with_client(login, &client, incoming, call, style).await;
    client.close().await;
    ended
}

async fn with_client(login: &Login, client: &Client, incoming: Incoming, call: Call, style: Style) -> Result<(), Fault> {
    let (cell, entry) = (&login.cell, call.entry);
    let target = match (entry.target, &call.target) {
        (Target::Cell, _) => cell.to_string(),
        (Target::Hypervisor, None) => resolve::hypervisor(client, cell, call.host.as_deref()).await?,
        (target, word) => resolve::target(client, cell, target, word.as_deref().unwrap_or_default(), call.host.as_deref()).await?,
    };
    if entry.name == "domain.console" && is_terminal_console(&call) {
        let name = call.target.clone().unwrap_or_default();
        return console::stay(client, login, &target, &name, call.arguments).await;
    }
    if let Some(file) = call.file {
        let transfer = Transfer { client, login, target: &target, arguments: call.arguments, file };
        let done = if entry.name == "volume.upload" { transfer.upload().await? } else { transfer.download(call.resume).await? };
        return if done.is_null() { Ok(()) } else { print(&entry.name, &done, style) };
    }
    if entry.effect == Effect::Destroy && !call.yes {
        confirm(&entry.title, call.target.as_deref().unwrap_or(&target))?;
    }
    let operation = (entry.effect != Effect::Read).then(OperationId::fresh);
    // A command that waits by itself gets that much time more.
    let patience =
        if matches!(&*entry.name, "task.wait" | "domain.guest-run") { asked_time(&call) + Duration::from_secs(15) } else { DEADLINE };
    let reply = client.command(&target, &entry.name, Value::Object(call.arguments), operation, patience).await?;
    if call.wait && starts_task(entry) {
        let task = reply.get("task").and_then(Value::as_str).and_then(|t| t.parse().ok());
        let task = task.ok_or_else(|| Fault::internal("the answer names no task to wait for"))?;
        if let Some(message) = reply.get("message").and_then(Value::as_str) {
            follow::say(&format!("{} (task {task})", output::printable(message)));
        }
        let ended = follow::task(client.clone(), incoming, cell, task).await?;
        print("task", &ended.to_json(), style)?;
        return follow::verdict(&ended);
    }
    print(&entry.name, &reply, style)?;
    if entry.name == "domain.guest-run"
        && !style.json
        && let Some(message) = reply.get("message").and_then(Value::as_str)
    {
        follow::say(&output::printable(message));
    }
    if entry.name == "task.wait"
        && let Ok(ended) = serde_json::from_value(reply)
    {
        return follow::verdict(&ended);
    }
    Ok(())
}

/// Without `--kind` or with `serial`, and without a proof of the caller's own, the console is meant to be used here.
fn is_terminal_console(call: &Call) -> bool {
    let kind = call.arguments.get("kind").and_then(Value::as_str);
    !call.arguments.contains_key("proof") && kind.is_none_or(|kind| kind == "serial")
}

fn asked_time(call: &Call) -> Duration {
    let default = call.entry.arguments.iter().find(|a| a.name == "timeout").and_then(|a| a.default.as_ref());
    let seconds = call.arguments.get("timeout").or(default).and_then(Value::as_u64);
    Duration::from_secs(seconds.unwrap_or(60))
}

fn print(command: &str, reply: &Value, style: Style) -> Result<(), Fault> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match output::reply(&mut out, command, reply, style).and_then(|()| out.flush()) {
        // Whoever read has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|e| Fault::internal("the output cannot be written").because(e)),
    }
}

/// Asks on a terminal; elsewhere nobody could answer.
fn confirm(title: &str, target: &str) -> Result<(), Fault> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Fault::invalid(format!(
            "{title}: {target} may lose data, and there is no terminal to ask on; add --yes if you mean it"
        )));
    }
    let _ = write!(io::stderr(), "{title}: {target}. Go on? [y/N] ").and_then(|()| io::stderr().flush());
    let mut answer = String::new();
    let _ = io::stdin().lock().read_line(&mut answer);
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") { Ok(()) } else { Err(Fault::invalid("nothing was done")) }
}
