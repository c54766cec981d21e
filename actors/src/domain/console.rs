//! What a person sees of a running machine and types into it. Consoles themselves go over HTTP: see [`crate::consoles`].

use super::{After, Answer, DomainActor, command, in_control, turn::Turn};
use crate::{
    ask::{Ask, ending},
    board::{Change, Draft},
    consoles::Watched,
    life::Posted,
    scope::{SHORT, within},
    work,
};
use actix::prelude::*;
use archipel_contract::{
    Caller, Command, DomainId, Fault, Millis,
    command::{Document, Done},
    domain::*,
    event::Cause,
    ticket::{ConsoleLine, ConsolePass, Opens},
    work::percent,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use std::rc::Rc;
use std::time::Duration;

/// How long a key of a typed text is down, and how long nothing is then: guests that are slow to boot miss less.
const TOUCH: Millis = Millis(15);
const BETWEEN: Duration = Duration::from_millis(15);

impl DomainActor {
    /// A question that changes nothing and needs libvirt: refused when the state does not allow it.
    pub(super) fn look<C, F>(&self, posted: Posted<Ask<C>>, work: F) -> Answer<C>
    where
        C: Command,
        F: AsyncFnOnce(Looking, C) -> Result<C::Reply, Fault> + 'static,
    {
        let Some(Ask { command, caller }) = posted.take() else { return Box::pin(fut::ready(ending())) };
        let (scope, id, entity) = (self.scope.clone(), self.id, self.entity());
        let look = async move {
            let entity = entity?;
            in_control(&entity)?;
            if let Some(facts) = entity.domain() {
                may(C::NAME, facts).check(&entity.name)?;
            }
            work(Looking { scope, id, name: entity.name.clone(), caller }, command).await
        };
        Box::pin(look.into_actor(self))
    }
}

/// Whoever looks, and at what.
pub(super) struct Looking {
    pub(super) scope: Rc<crate::scope::Scope>,
    pub(super) id: DomainId,
    pub(super) name: std::sync::Arc<str>,
    pub(super) caller: Caller,
}

impl Handler<Posted<Ask<OpenConsole>>> for DomainActor {
    type Result = Answer<OpenConsole>;
    fn handle(&mut self, posted: Posted<Ask<OpenConsole>>, _: &mut Self::Context) -> Self::Result {
        self.look(posted, async |at: Looking, command: OpenConsole| {
            let outlets = within(SHORT, at.scope.host.consoles.outlets(at.id)).await?;
            let name = &at.name;
            let line = match command.kind {
                ConsoleKind::Spice => return spice(name, outlets.spice),
                ConsoleKind::Vnc if !outlets.vnc => {
                    return Err(Fault::wrong_state(format!("{name} has no VNC screen; try its serial line, or give it one")));
                }
                ConsoleKind::Serial if !outlets.serial => {
                    return Err(Fault::wrong_state(format!("{name} has no serial line; try its screen, or give it one")));
                }
                ConsoleKind::Vnc => ConsoleLine::Vnc,
                ConsoleKind::Serial => ConsoleLine::Serial,
            };
            let proof = command.proof.ok_or_else(|| {
                Fault::invalid(
                    "proof is missing: the SHA-256 of a secret of yours, in base64url; the page and `archipel domain console` make it",
                )
            })?;
            let message = format!("opens the {} console of {name} at the web server of {}", line.name(), at.scope.host.name);
            let opens = Opens::Console(ConsolePass { domain: at.id, line, take_over: command.take_over });
            let ticket = at.scope.tickets.issue(&at.scope.host.name, &at.caller.jid, proof, opens, message.clone())?;
            Ok(ConsoleOffer { ticket: Some(ticket), file: None, message })
        })
    }
}

/// The file that virt-viewer opens.
fn spice(name: &str, outlet: Option<Option<SpiceAddress>>) -> Result<ConsoleOffer, Fault> {
    let Some(address) = outlet else {
        return Err(Fault::wrong_state(format!("{name} has no SPICE screen; open vnc, or give it one")));
    };
    let listens_nowhere = || Fault::wrong_state(format!("the SPICE screen of {name} listens nowhere, so no viewer can reach it; open vnc"));
    let address = address.ok_or_else(listens_nowhere)?;
    let mut text = format!("[virt-viewer]\ntype=spice\ntitle={name}\nhost={}\ndelete-this-file=1\n", address.host);
    for (key, port) in [("port", address.port), ("tls-port", address.tls_port)] {
        if let Some(port) = port {
            text.push_str(&format!("{key}={port}\n"));
        }
    }
    let message = format!("open the file with virt-viewer where {} can be reached", address.host);
    Ok(ConsoleOffer { ticket: None, file: Some(Document { media_type: "application/x-virt-viewer".to_owned(), text }), message })
}

impl Handler<Posted<Ask<ListViewers>>> for DomainActor {
    type Result = Result<Vec<Watching>, Fault>;
    fn handle(&mut self, _: Posted<Ask<ListViewers>>, _: &mut Self::Context) -> Self::Result {
        Ok(self.scope.consoles.viewers(self.id))
    }
}

impl Handler<Posted<Ask<TakeScreenshot>>> for DomainActor {
    type Result = Answer<TakeScreenshot>;
    fn handle(&mut self, posted: Posted<Ask<TakeScreenshot>>, _: &mut Self::Context) -> Self::Result {
        self.look(posted, async |at: Looking, command: TakeScreenshot| {
            let width = if command.thumbnail { THUMBNAIL } else { command.width };
            let Image { size: (width, height), png } =
                within(SHORT, at.scope.host.consoles.screenshot(at.id, width, PICTURE_LIMIT)).await?;
            Ok(Picture { media_type: "image/png".to_owned(), width, height, base64: BASE64_STANDARD.encode(png) })
        })
    }
}

impl Handler<Posted<Watched>> for DomainActor {
    type Result = ();
    fn handle(&mut self, posted: Posted<Watched>, _: &mut Self::Context) {
        if let (Some(Watched { topic, person, detail }), Some(entity)) = (posted.take(), self.known()) {
            let told = Change::to(self.id, topic, Cause::Person(person), Draft::of(&entity));
            self.scope.board.publish(told.with_detail(Some(detail)));
        }
    }
}

command!(SendKey, Event, [], |turn, command| {
    let hold = Millis(u64::from(command.hold));
    for keys in chords(&command.keys)? {
        within(SHORT, turn.scope.host.consoles.press(turn.id, keys, hold)).await?;
        tokio::time::sleep(hold.duration()).await;
    }
    Ok(Done::new(format!("{} was pressed on {}", command.keys, turn.name())))
});

command!(PasteText, Event, [], |turn, command| {
    if command.text.chars().count() > PASTE_LIMIT {
        return Err(Fault::invalid(format!("at most {PASTE_LIMIT} characters are typed at a time; send a longer text in parts")));
    }
    let mut strokes = typed(command.layout, &command.text)?;
    if command.enter {
        strokes.push(vec![ENTER]);
    }
    if strokes.is_empty() {
        return Err(Fault::invalid("there is nothing to type; give a text"));
    }
    let (host, id, name, whole) = (turn.scope.host.clone(), turn.id, turn.name(), strokes.len());
    let words = format!("typing {whole} strokes on {name}");
    let said = words.clone();
    let typing = move |follower: std::sync::Arc<dyn archipel_contract::work::Follower>| async move {
        for (done, keys) in strokes.into_iter().enumerate() {
            if follower.is_cancelled() {
                return Err(Fault::wrong_state(format!("{done} of {whole} strokes were typed, then it was stopped")));
            }
            follower.advance(percent(done as u64, whole as u64), &said);
            within(SHORT, host.consoles.press(id, keys, TOUCH)).await?;
            tokio::time::sleep(TOUCH.duration() + BETWEEN).await;
        }
        Ok(format!("{whole} strokes were typed on {name}"))
    };
    Ok(work::begin(&turn.scope, turn.id.into(), PasteText::NAME, &turn.name(), &turn.caller, words, typing))
});
