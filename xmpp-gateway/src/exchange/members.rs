//! Who belongs to the cell, as the exchange carries it out: agents that say hello, renew their certificate or leave, and the commands
//! with which people invite and revoke.
//!
//! ```text
//!   hello --not a member--------------------------------> refused, and the stream closed
//!         --another instance of it is linked and alive--> refused; both are told, and the hypervisor shows it
//!         --linked, and dead or the same----------------> takes over
//!         --of another major version--------------------> refused
//!         --else----------------------------------------> welcome, with what is wrong with it: its clock, its version
//! ```
//! Of two hosts with one identity the one that was there first stays, because it is the one whose machines people see; nobody can know
//! which of them is the copy. The other one tries again once a minute.

use super::{Exchange, node::host_of, reply::Reply};
use crate::membership::roll::Met;
use crate::server::session::{Phase, Session};
use crate::stanza::node;
use crate::stream::{Stanza, StreamCondition};
use archipel_contract::{
    Effect, EntityId, Fault, FaultKind, HypervisorName, Millis, OperationId,
    catalog::CommandEntry,
    cell::{Invitation, InviteHost, LONGEST_TOKEN_MINUTES, ListMembers, Member, MemberLogin, MemberState, RevokeMember, journal_target},
    command::{Done, parse_arguments},
    port::{Acceptance, Operation, Request},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// How long an agent has to give a sign of life when another one comes with its identity.
const SIGN_OF_LIFE: Millis = Millis::seconds(5);
/// So many answers with a token are remembered, for whoever asks the same operation again.
const MAX_TOLD: usize = 100;

/// What only this process remembers of the operations of the cell.
#[derive(Default)]
pub(super) struct Told {
    /// Answers that must not be written down whole, because they hold a secret; the latest first.
    answers: Mutex<VecDeque<(OperationId, Value)>>,
    /// What is being carried out.
    running: Mutex<HashSet<OperationId>>,
}

impl Told {
    fn remember(&self, id: OperationId, answer: Value) {
        let mut told = self.answers.lock();
        told.truncate(MAX_TOLD - 1);
        told.push_front((id, answer));
    }

    fn recall(&self, id: OperationId) -> Option<Value> {
        self.answers.lock().iter().find(|(known, _)| *known == id).map(|(_, answer)| answer.clone())
    }
}

fn nobody_can_join() -> Fault {
    Fault::new(FaultKind::Unsupported, "this exchange keeps no certificates, so nobody can join it")
}

impl Exchange {
    // ------------------------------------------------------------ what agents say

    /// An agent begins to speak for its host.
    pub(super) fn on_hello(self: &Arc<Self>, session: &Arc<Session>, hello: node::Hello, reply: Reply) {
        if host_of(session).is_none_or(|h| h != hello.host) {
            reply.fault(&Fault::new(
                FaultKind::Forbidden,
                format!("{} may not speak for the host {}; its account must be hv.{}", session.jid(), hello.host, hello.host),
            ));
            return;
        }
        let rival = self.instances(session, &hello).into_iter().find(|other| other.phase() == Phase::Live);
        if rival.is_none() && self.membership.is_none() {
            return self.admit(session, hello, None, &reply);
        }
        let (exchange, session) = (self.clone(), session.clone());
        tokio::spawn(async move {
            let mut renew_after = None;
            if let Some(members) = &exchange.membership {
                match members.belongs(&hello.host).await {
                    Ok(true) => {}
                    Ok(false) => {
                        let text = format!("{} does not belong to this cell any more; join again with a new token", hello.host);
                        reply.fault(&Fault::new(FaultKind::Forbidden, text.clone()));
                        return session.close_because(StreamCondition::NotAuthorized, text);
                    }
                    Err(fault) => return reply.fault(&fault),
                }
                renew_after = members.renew_after(&hello.host).await.unwrap_or_default();
            }
            if let Some(rival) = rival
                && exchange.links.is_alive(exchange.cell.as_str(), exchange.epoch, rival.id(), SIGN_OF_LIFE).await
            {
                return exchange.on_two_of_one(&rival, &session, &hello.host, &reply);
            }
            exchange.admit(&session, hello, renew_after, &reply);
        });
    }

    /// The links of other instances of the same agent. One that does not say which it is may be any.
    fn instances(&self, session: &Session, hello: &node::Hello) -> Vec<Arc<Session>> {
        let state = self.links.state.lock();
        let other = |link: &&super::node::Link| {
            let differs = link.instance.is_some() && hello.instance.is_some() && link.instance != hello.instance;
            link.host == hello.host && link.session.id() != session.id() && differs
        };
        state.links.values().filter(other).map(|link| link.session.clone()).collect()
    }

    fn admit(self: &Arc<Self>, session: &Arc<Session>, hello: node::Hello, renew_after: Option<Millis>, reply: &Reply) {
        // While we looked, the session may have ended; nobody would ever take its link off the books.
        if session.phase() == Phase::Closed {
            return;
        }
        let host = hello.host.clone();
        // A dead instance whose connection nobody has missed yet: what it spoke for is not known until this one has listed it.
        for old in self.instances(session, &hello) {
            self.on_link_closed(&old);
            old.close_because(StreamCondition::Conflict, "a later start of this agent took over");
        }
        let met = match self.roll.meet(&hello, &self.version, self.clock.now()) {
            Ok(met) => met,
            Err(fault) => {
                tracing::warn!(%host, %fault, "an agent was refused");
                return reply.fault(&fault);
            }
        };
        if self.locations.write().hello(&host, session.id(), hello.incarnation).is_err() {
            return reply.fault(&Fault::new(FaultKind::Conflict, format!("a newer agent of {host} has spoken already; stop this one")));
        }
        let warnings = met.warnings();
        self.remark(&host, &warnings);
        tracing::info!(%host, version = hello.version, incarnation = hello.incarnation, entities = hello.entities, "an agent joined");
        for warning in &warnings {
            tracing::warn!(%host, warning, "an agent is not as it should be");
        }
        self.links.open(session, host, hello.instance);
        reply.element(&node::welcome(node::Welcome {
            exchange_epoch: self.epoch.0,
            warnings,
            renew_after,
            exchanges: self.links.exchanges.lock().clone(),
        }));
        self.tend_usage();
        if session.phase() == Phase::Closed {
            self.on_link_closed(session);
        }
    }

    /// Two that are alive have one identity.
    fn on_two_of_one(self: &Arc<Self>, first: &Arc<Session>, second: &Arc<Session>, host: &HypervisorName, reply: &Reply) {
        let what_to_do = "two hosts use one identity, as after copying a disk: on the wrong one run `archipeld leave --here-only`, and join it \
                          under a name of its own";
        let to_second = format!("the agent of {host} at {} is linked and alive; {what_to_do}", first.peer());
        let to_first = format!("another host at {} logs in as {host} too; {what_to_do}", second.peer());
        tracing::error!(%host, first = first.peer(), second = second.peer(), "two hosts use one identity");
        let warnings = self.roll.rival(host, to_first);
        self.remark(host, &warnings);
        let mut xml = super::xml::Xml::stanza("message");
        xml.attr("from", self.cell.as_str()).attr("to", &first.jid().to_string()).element(&node::warning(&warnings));
        // A full queue is told by the health page all the same.
        let _ = first.send(Stanza::from(xml.finish()));
        reply.fault(&Fault::new(FaultKind::Conflict, to_second.clone()));
        second.close_because(StreamCondition::Conflict, to_second);
    }

    /// Shows on the hypervisor what is wrong with its agent, or that nothing is.
    fn remark(self: &Arc<Self>, host: &HypervisorName, warnings: &[String]) {
        let id = EntityId::Hypervisor(host.clone());
        let why: Option<Arc<str>> = (!warnings.is_empty()).then(|| warnings.join("; ").into());
        if self.locations.read().mark(&id) == why.as_ref() {
            return;
        }
        let detail = why.clone().unwrap_or_else(|| "its agent is as it should be".into());
        self.change(|table, now| table.say(&id, why, "hypervisor.changed", detail, now));
    }

    fn links_of(&self, host: &HypervisorName) -> Vec<Arc<Session>> {
        self.links.state.lock().links.values().filter(|l| l.host == *host).map(|l| l.session.clone()).collect()
    }

    /// An agent asks for its next certificate, over a link that it logged in to with the one before.
    pub(super) fn on_renewal(self: &Arc<Self>, session: &Arc<Session>, renewal: node::Renewal, reply: Reply) {
        let (Some(members), Some(host)) = (self.membership.clone(), host_of(session)) else { return reply.fault(&nobody_can_join()) };
        tokio::spawn(async move {
            match members.renew(&host, &renewal.key).await {
                Ok(grant) => reply.element(&node::renewed(&grant)),
                Err(fault) => reply.fault(&fault),
            }
        });
    }

    /// A host leaves the cell: its certificate is worth nothing any more, and what it spoke for is not shown any more.
    pub(super) fn on_leave(self: &Arc<Self>, session: &Arc<Session>, reply: Reply) {
        let (Some(members), Some(host)) = (self.membership.clone(), host_of(session)) else { return reply.fault(&nobody_can_join()) };
        let (exchange, session) = (self.clone(), session.clone());
        tokio::spawn(async move {
            if let Err(fault) = members.remove(&host, "the host left the cell").await {
                return reply.fault(&fault);
            }
            tracing::info!(%host, "a host left the cell");
            exchange.forget(&host, &session);
            reply.done();
        });
    }

    /// What a host that left spoke for is gone from the cell; on the host it runs on.
    fn forget(self: &Arc<Self>, host: &HypervisorName, by: &Session) {
        self.cut(host, "the host left the cell", Some(by));
        self.roll.forget(host);
        // An agent that says it has nothing: everything is taken out by the rules that hold for it anyway.
        let (incarnation, link) = (u64::MAX, by.id());
        let any = {
            let mut table = self.locations.write();
            table.on_host(host).next().is_some() && table.hello(host, link, incarnation).is_ok()
        };
        if any {
            self.change(|table, now| table.asserted(host, link, now));
            self.change(|table, now| table.lost(host, link, now));
        }
        self.locations.write().dismiss(host);
    }

    /// Ends all links of a host.
    fn cut(&self, host: &HypervisorName, why: &str, but: Option<&Session>) {
        for session in self.links_of(host).into_iter().filter(|s| but.is_none_or(|but| but.id() != s.id())) {
            session.close_because(StreamCondition::NotAuthorized, why);
        }
    }

    /// Tells every agent where all exchanges of the cell are, now and whenever one links, so that it finds the next one by itself.
    pub fn tell_exchanges(&self, addresses: Vec<String>) {
        let sessions: Vec<Arc<Session>> = {
            let mut known = self.links.exchanges.lock();
            if *known == addresses {
                return;
            }
            known.clone_from(&addresses);
            self.links.state.lock().links.values().map(|link| link.session.clone()).collect()
        };
        for session in sessions {
            let mut xml = super::xml::Xml::stanza("message");
            xml.attr("from", self.cell.as_str()).attr("to", &session.jid().to_string()).element(&node::exchanges(&addresses));
            // An agent whose queue is full is cut anyway, and told when it is back.
            let _ = session.send(Stanza::from(xml.finish()));
        }
    }

    // ------------------------------------------------------------ what people ask

    /// A command of the cell itself that is more than a list. `None`: it is none of these.
    pub(super) async fn on_cell_command(&self, entry: &CommandEntry, request: &Request) -> Option<Result<Value, Fault>> {
        if !entry.name.starts_with("cell.") {
            return None;
        }
        Some(if entry.effect == Effect::Read { self.members(request).await } else { self.once(request).await })
    }

    /// Carries out a change of the cell's own, once for each operation.
    async fn once(&self, request: &Request) -> Result<Value, Fault> {
        let Some(journal) = &self.journal else { return Err(nobody_can_join()) };
        let target = journal_target().map_err(|e| Fault::internal("the cell has no name in the journal").because(e))?;
        let id = request.caller.operation;
        let operation = Operation {
            id,
            caller: request.caller.jid.split('/').next().unwrap_or_default().to_owned(),
            role: request.caller.role,
            command: request.command.clone(),
            target,
            arguments: request.arguments.clone(),
            accepted: self.clock.now(),
        };
        let caller = operation.caller.clone();
        // Marked before it is accepted, so that nobody takes it for one that a crash interrupted.
        let _running = Running::begin(&self.told, id)?;
        match journal.accept(operation).await? {
            Acceptance::Done(outcome) => return self.told.recall(id).map_or(outcome, Ok),
            Acceptance::Running => {
                let fault = Fault::unavailable(format!(
                    "{} was interrupted by a restart; look at `archipel cell members` and ask again",
                    request.command
                ));
                journal.complete(caller, id, Err(fault.clone()), self.clock.now()).await?;
                return Err(fault);
            }
            Acceptance::New => {}
        }
        let outcome = match request.command.as_str() {
            "cell.invite" => self.invite(request, &caller).await,
            "cell.revoke" => self.revoke(request, &caller).await,
            other => Err(Fault::new(FaultKind::Unsupported, format!("the cell does not know how to carry out {other}"))),
        };
        let mut kept = outcome.clone();
        if let Ok(Value::Object(answer)) = &mut kept
            && answer.remove("token").is_some()
        {
            answer.insert("message".into(), "the token was shown once and is not kept; invite the host again if it was lost".into());
            answer.insert("command".into(), "".into());
            if let Ok(whole) = &outcome {
                self.told.remember(id, whole.clone());
            }
        }
        journal.complete(caller, id, kept, self.clock.now()).await?;
        outcome
    }

    async fn invite(&self, request: &Request, caller: &str) -> Result<Value, Fault> {
        let asked: InviteHost = parse_arguments(request.arguments.clone())?;
        let members = self.membership.as_ref().ok_or_else(nobody_can_join)?;
        if !(1..=LONGEST_TOKEN_MINUTES).contains(&asked.lifetime) {
            return Err(Fault::invalid(format!("a token holds from 1 to {LONGEST_TOKEN_MINUTES} minutes, not {}", asked.lifetime)));
        }
        let (token, expires) = members.invite(caller, asked.name.clone(), Millis::seconds(u64::from(asked.lifetime) * 60)).await?;
        let (token, exchange) = (token.to_text(), members.address().to_owned());
        let name = asked.name.as_ref().map(|name| format!(" --name {name}")).unwrap_or_default();
        let command = format!("archipeld join {exchange} {token}{name}");
        let mut message = format!("run this on the other host until {expires}; it works once");
        if only_here(&exchange) {
            message = format!(
                "{message}; but this exchange listens on its own machine only, so set xmpp.listen before a host elsewhere can join"
            );
        }
        tracing::info!(by = caller, host = asked.name.as_ref().map(tracing::field::display), until = %expires, "a host was invited");
        let answer =
            Invitation { message, command, token: Some(token), exchange, fingerprint: members.fingerprint(), name: asked.name, expires };
        serde_json::to_value(answer).map_err(|e| Fault::internal("the invitation cannot be written").because(e))
    }

    async fn revoke(&self, request: &Request, caller: &str) -> Result<Value, Fault> {
        let RevokeMember { name } = parse_arguments(request.arguments.clone())?;
        let members = self.membership.as_ref().ok_or_else(nobody_can_join)?;
        members.remove(&name, &format!("revoked by {caller}")).await?;
        self.cut(&name, "the certificate was taken back; join again with a new token", None);
        tracing::info!(by = caller, host = %name, "a host's certificate was taken back");
        Ok(json!(Done::new(format!("{name} does not belong to the cell any more, and its link is cut; its guests run on"))))
    }

    async fn members(&self, request: &Request) -> Result<Value, Fault> {
        let ListMembers {} = parse_arguments(request.arguments.clone())?;
        let met = self.roll.all();
        let about = |name: &HypervisorName, login| {
            let Met { linked, version, offset, .. } = met.get(name).cloned().unwrap_or_default();
            Member {
                name: name.clone(),
                state: if linked { MemberState::Linked } else { MemberState::Away },
                login,
                joined: None,
                expires: None,
                version: Some(version).filter(|v| !v.is_empty()),
                clock_offset: offset.map(|o| o / 1000),
                warnings: met.get(name).map(Met::warnings).unwrap_or_default(),
            }
        };
        let mut all = Vec::new();
        if let Some(members) = &self.membership {
            for record in members.records().await? {
                let one = about(&record.name, MemberLogin::Certificate);
                all.push(Member { joined: Some(record.joined), expires: Some(record.expires()), ..one });
            }
            all.extend(members.by_account().await?.iter().map(|name| about(name, MemberLogin::Account)));
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        serde_json::to_value(all).map_err(|e| Fault::internal("the members cannot be written").because(e))
    }
}

/// An operation that is being carried out by this process.
struct Running<'a> {
    told: &'a Told,
    id: OperationId,
}

impl Running<'_> {
    fn begin(told: &Told, id: OperationId) -> Result<Running<'_>, Fault> {
        if !told.running.lock().insert(id) {
            return Err(Fault::busy("this operation is being carried out already; wait for its answer"));
        }
        Ok(Running { told, id })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.told.running.lock().remove(&self.id);
    }
}

/// Whether nobody on another machine reaches that address.
fn only_here(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
