//! A program in a guest: begun by the agent, then asked after until it has ended. The agent has no event for the end, so somebody who
//! waits has to ask; it is asked less and less often, and by nobody once the time is over.

use super::{active, explained, raw};
use crate::connection::{Lane, Link, Session, Trouble};
use archipel_contract::{
    DomainId, Fault, FaultKind,
    domain::{OUTPUT_LIMIT, Program, ProgramEnd},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use virt::domain::Domain;

/// How long to wait before the agent is asked again: at first, and at most.
const FIRST: Duration = Duration::from_millis(20);
const MOST: Duration = Duration::from_secs(1);

/// What the agent says about an order that it did not carry out, in words that say what to do.
fn refused(name: &str, program: &str, said: &str) -> Option<Fault> {
    let fault = if said.contains("disabled") || said.contains("CommandNotFound") || said.contains("has not been found") {
        let words = format!(
            "the agent in {name} runs no programs: guest-exec is disabled there; its administrator allows it in the settings of qemu-ga"
        );
        Fault::new(FaultKind::Unsupported, words)
    } else if said.contains("Failed to execute child process") || said.contains("CreateProcess") {
        Fault::invalid(format!("{program} could not be begun in {name}; name a program that is there"))
    } else {
        return None;
    };
    Some(fault.because(said))
}

fn ordered(domain: &Domain, program: &str, order: &Value) -> Result<Value, Trouble> {
    let answer = raw::order(domain, &order.to_string());
    if let Err(error) = &answer {
        let name = domain.name().unwrap_or_default();
        if let Some(fault) = refused(&name, program, error.message()) {
            return Err(fault.into());
        }
    }
    let text = explained(domain, answer)?;
    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
    Ok(answer["return"].clone())
}

fn begin(session: &Session, id: DomainId, program: &Program) -> Result<i64, Trouble> {
    let domain = active(session, id)?;
    let mut order = json!({"path": program.path, "arg": program.arguments, "capture-output": true});
    if let Some(input) = &program.input {
        order["input-data"] = BASE64_STANDARD.encode(input).into();
    }
    let answer = ordered(&domain, &program.path, &json!({"execute": "guest-exec", "arguments": order}))?;
    let number = answer["pid"].as_i64();
    Ok(number.ok_or_else(|| Fault::internal("the guest's agent began a program and did not say which; look in the guest"))?)
}

/// What the agent says of a program; `None` while it goes on. What it wrote is the guest's word, and only so much of it is kept.
fn end(said: &Value) -> Option<ProgramEnd> {
    if said["exited"] != true {
        return None;
    }
    let number = |key: &str| said[key].as_i64().and_then(|n| i32::try_from(n).ok());
    let mut truncated = said["out-truncated"] == true || said["err-truncated"] == true;
    let mut bytes = |key: &str| {
        let mut bytes = said[key].as_str().and_then(|t| BASE64_STANDARD.decode(t).ok()).unwrap_or_default();
        truncated |= bytes.len() > OUTPUT_LIMIT;
        bytes.truncate(OUTPUT_LIMIT);
        bytes
    };
    let (output, errors) = (bytes("out-data"), bytes("err-data"));
    Some(ProgramEnd { exit_code: number("exitcode"), signal: number("signal"), output, errors, truncated })
}

pub(super) async fn run(link: &Link, id: DomainId, program: Program, patience: Duration) -> Result<ProgramEnd, Fault> {
    let over = Instant::now() + patience;
    let path = program.path.clone();
    let number = link.call(Lane::Change, "running a program in the guest", move |session| begin(session, id, &program)).await?;
    let question = json!({"execute": "guest-exec-status", "arguments": {"pid": number}});
    let mut pause = FIRST;
    loop {
        let (path, question) = (path.clone(), question.clone());
        let look =
            link.call(Lane::Change, "asking after a program in the guest", move |session| ordered(&active(session, id)?, &path, &question));
        if let Some(end) = end(&look.await?) {
            return Ok(end);
        }
        if Instant::now() >= over {
            break;
        }
        sleep(pause.min(over - Instant::now())).await;
        pause = (pause * 2).min(MOST);
    }
    let seconds = patience.as_secs();
    let text = format!("{path} has not ended within {seconds} s; it goes on in the guest as process {number}, and nobody hears of its end");
    Err(Fault::new(FaultKind::Timeout, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_ended_when_the_agent_says_so_and_too_much_is_cut() {
        assert_eq!(end(&json!({"exited": false})), None);
        assert_eq!(end(&json!(null)), None);
        let told = end(&json!({"exited": true, "exitcode": 3, "out-data": "aGk=", "err-data": "not base64!"})).unwrap();
        assert_eq!((told.exit_code, told.signal, &*told.output, &*told.errors), (Some(3), None, &b"hi"[..], &b""[..]));
        assert!(!told.truncated);
        let much = BASE64_STANDARD.encode(vec![0; OUTPUT_LIMIT + 1]);
        let told = end(&json!({"exited": true, "signal": 9, "out-data": much})).unwrap();
        assert_eq!((told.output.len(), told.truncated, told.signal), (OUTPUT_LIMIT, true, Some(9)));
        assert!(end(&json!({"exited": true, "err-truncated": true})).unwrap().truncated);
    }

    #[test]
    fn a_refusal_of_the_agent_says_what_to_do() {
        let disabled = refused("web1", "id", "unable to execute QEMU agent command 'guest-exec': Command guest-exec has been disabled");
        assert_eq!(disabled.map(|f| f.kind), Some(FaultKind::Unsupported));
        let missing = refused("web1", "nope", "Guest agent command failed, error was 'Failed to execute child process “nope”'");
        assert_eq!(missing.map(|f| f.kind), Some(FaultKind::InvalidRequest));
        assert_eq!(refused("web1", "id", "something else"), None);
    }
}
