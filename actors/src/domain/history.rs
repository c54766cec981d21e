//! The versions of a machine's definition, kept in the agent's own documents: `history/<uuid>/<number>`, the last [`KEPT`] of them.
//!
//! ```text
//!   change of ours --> before differs from the newest version? --> a version nobody asked for
//!                  \--> after --> a version with who asked
//!   libvirt tells of a definition --(in the machine's turn)--> differs from the newest? --> a version nobody asked for
//! ```
//! The first version is what was found before the first change. A host that gets a machine asks the one before for its past
//! ([`super::past`]).

use super::{
    After, Answer, DomainActor, command,
    edit::{and_unasked, nobody_has_those_of},
    in_control,
    saved::nothing_is_saved,
    turn::Turn,
};
use crate::{
    ask::{Ask, bare, ending},
    life::Posted,
    scope::{LONG, SHORT, Scope, within},
    users,
};
use actix::prelude::*;
use archipel_contract::{Command, DomainId, Fault, command::Document, domain::*};

pub(super) fn folder(id: DomainId) -> String {
    format!("history/{id}/")
}

/// All versions that are kept, oldest first.
pub(super) async fn kept(scope: &Scope, id: DomainId) -> Result<Vec<Kept>, Fault> {
    let documents = scope.local.documents(folder(id)).await?;
    let read = documents.into_iter().filter_map(|(_, document)| serde_json::from_slice(&document.body).ok());
    Ok(read.collect())
}

pub(super) async fn write(
    scope: &Scope,
    id: DomainId,
    all: &mut Vec<Kept>,
    by: Option<String>,
    what: &str,
    xml: &str,
) -> Result<(), Fault> {
    let last = all.last();
    let lines = last.map_or_else(|| format!("+{} -0", xml.lines().count()), |l| counted(&l.xml, xml));
    let number = last.map_or(1, |l| l.version.version + 1);
    let version = Version { version: number, at: scope.clock.now(), by, what: what.to_owned(), lines };
    let kept = Kept { version, xml: xml.to_owned() };
    let body = serde_json::to_vec(&kept).map_err(|e| Fault::internal("a version could not be written; please report this").because(e))?;
    scope.local.write_document(format!("{}{number:08}", folder(id)), None, Some(body)).await?;
    all.push(kept);
    while all.len() > KEPT {
        let key = format!("{}{:08}", folder(id), all.remove(0).version.version);
        if let Some(old) = scope.local.document(key.clone()).await? {
            scope.local.write_document(key, Some(old.version), None).await?;
        }
    }
    Ok(())
}

/// Keeps what a change of ours made of the definition. That it cannot be kept does not undo the change; it is told in the log.
pub(super) async fn keep(turn: &Turn, command: &str, applied: &Applied) {
    if applied.before == applied.after {
        return;
    }
    let by = Some(bare(&turn.caller.jid).to_owned());
    let keeping = async {
        let mut all = kept(&turn.scope, turn.id).await?;
        if all.last().is_none_or(|newest| newest.xml != applied.before) {
            let what = if all.is_empty() { "as it was found" } else { "changed by somebody else" };
            write(&turn.scope, turn.id, &mut all, None, what, &applied.before).await?;
        }
        write(&turn.scope, turn.id, &mut all, by, command, &applied.after).await
    };
    if let Err(fault) = keeping.await {
        tracing::warn!(domain = %turn.id, command, %fault, "a version of a definition could not be kept");
    }
}

/// Notices a change that was not asked of us, of a machine that has versions.
async fn notice(scope: &Scope, id: DomainId) {
    let noticing = async {
        let mut all = kept(scope, id).await?;
        let Some(newest) = all.last() else { return Ok(()) };
        let now = within(SHORT, scope.host.domains.xml(id, true)).await?;
        if newest.xml == now {
            return Ok(());
        }
        write(scope, id, &mut all, None, "changed by somebody else", &now).await
    };
    let noticed: Result<(), Fault> = noticing.await;
    if let Err(fault) = noticed {
        tracing::debug!(domain = %id, %fault, "whether a definition was changed by somebody else is not known");
    }
}

impl DomainActor {
    /// libvirt says that the definition changed. If that was not us, a version tells of it; whose change it was is seen in the
    /// machine's turn, when what we are doing has been kept.
    pub(super) fn notice_definition(&mut self, ctx: &mut Context<Self>) {
        let (desk, scope, id) = (self.desk.get_or_insert_default().clone(), self.scope.clone(), self.id);
        let noticing = async move {
            let _place = desk.turn.clone().lock_owned().await;
            notice(&scope, id).await;
        };
        ctx.spawn(noticing.into_actor(self));
    }
}

async fn put(turn: &Turn, what: &str, xml: String) -> Result<Replaced, Fault> {
    nothing_is_saved(&turn.scope, turn.id, &turn.name()).await?;
    let disks = users::of_definition(&turn.scope, turn.id, &xml).await?;
    let unasked = nobody_has_those_of(&turn.scope, turn.id, &xml).await?;
    let applied = within(LONG, turn.scope.host.definitions.replace(turn.id, xml, disks)).await?;
    keep(turn, what, &applied).await;
    let diff = unified(&applied.before, &applied.after, ("before", "after"));
    let name = turn.name();
    let message = match applied.applies {
        Applies::Nothing => format!("the definition of {name} was so already"),
        _ => format!("the definition of {name} is replaced ({}); it applies at the next boot", counted(&applied.before, &applied.after)),
    };
    Ok(Replaced { message: and_unasked(message, &unasked), applies: applied.applies, diff })
}

command!(EditDomainXml, Read, ["domain.changed"], |turn, command| {
    command.check()?;
    put(turn, EditDomainXml::NAME, command.xml).await
});

command!(RevertDomain, Read, ["domain.changed"], |turn, command| {
    let all = kept(&turn.scope, turn.id).await?;
    let version = find(&all, command.version)?;
    put(turn, &format!("{} to {}", RevertDomain::NAME, command.version), version.xml.clone()).await
});

fn find(all: &[Kept], version: u32) -> Result<&Kept, Fault> {
    let found = all.iter().find(|k| k.version.version == version);
    found.ok_or_else(|| Fault::not_found(format!("there is no version {version} of its definition here; list them with domain.history")))
}

impl Handler<Posted<Ask<ListHistory>>> for DomainActor {
    type Result = Answer<ListHistory>;
    fn handle(&mut self, posted: Posted<Ask<ListHistory>>, _: &mut Self::Context) -> Self::Result {
        if posted.take().is_none() {
            return Box::pin(fut::ready(ending()));
        }
        let (scope, id, entity) = (self.scope.clone(), self.id, self.entity());
        let look = async move {
            entity?;
            Ok(kept(&scope, id).await?.into_iter().map(|k| k.version).collect())
        };
        Box::pin(look.into_actor(self))
    }
}

impl Handler<Posted<Ask<DiffDomain>>> for DomainActor {
    type Result = Answer<DiffDomain>;
    fn handle(&mut self, posted: Posted<Ask<DiffDomain>>, _: &mut Self::Context) -> Self::Result {
        let Some(ask) = posted.take() else { return Box::pin(fut::ready(ending())) };
        let (scope, id, entity) = (self.scope.clone(), self.id, self.entity());
        let look = async move {
            in_control(&*entity?)?;
            let all = kept(&scope, id).await?;
            let DiffDomain { from, to } = ask.command;
            let newer = match to {
                Some(version) => find(&all, version)?.xml.clone(),
                None => within(SHORT, scope.host.domains.xml(id, true)).await?,
            };
            let before_newest = || {
                let at = to.map_or(all.len(), |to| all.iter().position(|k| k.version.version == to).unwrap_or(0));
                // The present definition is the newest version, unless somebody else has changed it since.
                let is_newest = to.is_none() && all.last().is_some_and(|k| k.xml == newer);
                at.checked_sub(if is_newest { 2 } else { 1 }).and_then(|at| all.get(at))
            };
            let older = match from {
                Some(version) => Some(find(&all, version)?),
                None => before_newest(),
            };
            let (xml, name) = older.map_or(("", "nothing".to_owned()), |k| (k.xml.as_str(), format!("version {}", k.version.version)));
            let to = to.map_or_else(|| "present".to_owned(), |to| format!("version {to}"));
            Ok(Document { media_type: "text/x-diff".to_owned(), text: unified(xml, &newer, (&name, &to)) })
        };
        Box::pin(look.into_actor(self))
    }
}
