//! A conversation with an entity: line by line on a terminal, or from a pipe, where each line waits for its answer.

use crate::follow::say;
use crate::output;
use archipel_contract::{Fault, FaultKind};
use archipel_xmpp::client::{Client, Happening, Incoming};
use archipel_xmpp::{ns, stanza};
use minidom::Element;
use rxml::xml_ncname;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long an answer may take when nobody watches.
const ANSWER: Duration = Duration::from_secs(30);

fn message(to: &str, text: &str) -> Element {
    let mut message = Element::bare("message", ns::CLIENT);
    stanza::set_attr(&mut message, xml_ncname!("type"), "chat");
    message.append_child(stanza::text_element("body", ns::CLIENT, text));
    stanza::addressed(message, to)
}

/// What the other one said, if this stanza is from them.
fn said(stanza: &Element, by: &str) -> Option<Result<String, Fault>> {
    let from = stanza.attr("from")?;
    if stanza.name() != "message" || from.split('/').next() != Some(by) {
        return None;
    }
    if stanza.attr("type") == Some("error") {
        return Some(Err(stanza::fault::of_stanza(stanza)));
    }
    stanza.get_child("body", ns::CLIENT).map(|body| Ok(body.text()))
}

/// Standard input, line by line, from a thread of its own: a terminal cannot be read without blocking.
fn lines() -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receive
}

/// Talks until standard input ends.
pub(crate) async fn talk(client: &Client, mut incoming: Incoming, jid: &str, name: &str) -> Result<(), Fault> {
    let interactive = io::stdin().is_terminal() && io::stdout().is_terminal();
    let mut lines = lines();
    let prompt = || {
        if interactive {
            let _ = write!(io::stdout(), "{name}> ").and_then(|()| io::stdout().flush());
        }
    };
    if interactive {
        say(&format!("talking with {name}; type help to see what it understands, Ctrl-D to end"));
    }
    prompt();
    // From a pipe the next line waits for the answer to the one before.
    let mut waiting = false;
    let mut failed = None;
    loop {
        let patience = async {
            if waiting && !interactive {
                tokio::time::sleep(ANSWER).await;
            } else {
                std::future::pending().await
            }
        };
        tokio::select! {
            line = lines.recv(), if interactive || !waiting => match line {
                None => return failed.map_or(Ok(()), Err),
                Some(line) if line.trim().is_empty() => prompt(),
                Some(line) => {
                    client.send(&message(jid, line.trim())).await?;
                    waiting = true;
                }
            },
            happening = incoming.recv() => match happening {
                None => return Err(Fault::unavailable("the connection was closed")),
                Some(Happening::Offline(fault)) if fault.kind == FaultKind::Forbidden => return Err(fault),
                Some(Happening::Offline(fault)) => say(&format!("{fault}; trying again")),
                Some(Happening::Online { .. }) => {}
                Some(Happening::Stanza(stanza)) => match said(&stanza, jid) {
                    None => {}
                    Some(answer) => {
                        waiting = false;
                        match answer {
                            Ok(text) => {
                                let text: Vec<String> = text.lines().map(output::printable).collect();
                                let start = if interactive { "\r\u{1b}[K" } else { "" };
                                let printed = writeln!(io::stdout(), "{start}{}", text.join("\n"));
                                printed.map_err(|e| Fault::internal("the output cannot be written").because(e))?;
                            }
                            Err(fault) => {
                                say(&fault.to_string());
                                failed = Some(fault);
                            }
                        }
                        prompt();
                    }
                },
            },
            () = patience => {
                return Err(Fault::new(FaultKind::Timeout, format!("{name} does not answer within {} s", ANSWER.as_secs())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_other_one_is_heard() {
        let parse = |text: &str| text.parse::<Element>().expect("it is XML");
        let answer = parse("<message xmlns='jabber:client' from='u@c/alpha' type='chat'><body>hello</body></message>");
        assert_eq!(said(&answer, "u@c"), Some(Ok("hello".into())));
        assert_eq!(said(&answer, "v@c"), None);
        let typing = parse("<message xmlns='jabber:client' from='u@c/alpha' type='chat'/>");
        assert_eq!(said(&typing, "u@c"), None);
        let error = stanza::fault::answer(&message("u@c", "hi"), &Fault::unavailable("gone"));
        let error = stanza::sent_by(error, "u@c");
        assert_eq!(said(&error, "u@c"), Some(Err(Fault::unavailable("gone"))));
    }
}
