//! Every way an actor can end, and what its supervisor does. Time is tokio's paused clock: pauses pass at once.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use actix::prelude::*;
use archipel_actors::life::{Life, Nudge, Post, Posted};
use archipel_contract::{Fault, Millis};
use archipel_supervisors::{
    policy::{Decision, Policy},
    supervisor::{Failure, Family, Supervisor},
};
use futures::future::LocalBoxFuture;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// An actor that ends as it is told. `count` is what it has lived through; a fresh one has none.
struct Subject {
    life: Arc<Life>,
    count: u32,
}

impl Actor for Subject {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "u32")]
enum Say {
    Count,
    Panic,
    Error,
    Freeze,
    Slowly,
    End,
}

impl Handler<Posted<Say>> for Subject {
    type Result = ResponseActFuture<Self, u32>;
    fn handle(&mut self, posted: Posted<Say>, ctx: &mut Self::Context) -> Self::Result {
        let Some(said) = posted.take() else { return Box::pin(fut::ready(0)) };
        match said {
            Say::Count => self.count += 1,
            Say::Panic => panic!("as told"),
            Say::Error => {
                self.life.fail(Fault::internal("as told"));
                ctx.stop();
            }
            Say::Freeze => ctx.wait(std::future::pending::<()>().into_actor(self)),
            Say::Slowly => {
                return Box::pin(tokio::time::sleep(Duration::from_secs(1)).into_actor(self).map(|(), this, _| this.count + 100));
            }
            Say::End => ctx.stop(),
        }
        Box::pin(fut::ready(self.count))
    }
}

#[derive(Default)]
struct Subjects {
    posts: RefCell<HashMap<String, Post<Subject>>>,
    nudge: OnceCell<Nudge>,
    lives: RefCell<Vec<(String, bool)>>,
    failures: RefCell<Vec<(String, &'static str, Decision, Instant)>>,
}

impl Family for Subjects {
    type Key = String;
    fn make(&self, key: &String, life: &Arc<Life>, fresh: bool) -> LocalBoxFuture<'static, ()> {
        self.lives.borrow_mut().push((key.clone(), fresh));
        let future = Context::<Subject>::new().into_future(Subject { life: life.clone(), count: 0 });
        let post = Post::new(future.address(), life.clone(), self.nudge.get().cloned().unwrap());
        self.posts.borrow_mut().insert(key.clone(), post);
        Box::pin(future)
    }
    fn policy(&self, _: &String) -> Policy {
        Policy { frozen_after: Millis::seconds(10), ..Policy::CHILD }
    }
    fn leave(&self, key: &String, life: &Arc<Life>) {
        let mut posts = self.posts.borrow_mut();
        if posts.get(key).is_some_and(|p| p.is_of(life)) {
            posts.remove(key);
        }
    }
    fn failed(&self, key: &String, failure: &Failure, decision: Decision) {
        self.failures.borrow_mut().push((key.clone(), failure.word(), decision, Instant::now()));
    }
}

type Lab = Rc<Supervisor<Subjects>>;

fn lab(test: impl AsyncFnOnce(Lab)) {
    System::new().block_on(async {
        tokio::time::pause();
        let supervisor = Supervisor::new(Subjects::default());
        let _ = supervisor.family().nudge.set(supervisor.nudge().clone());
        supervisor.start("a".into());
        // Paused time passes by itself while everybody waits, so this is a bound on simulated time.
        timeout(Duration::from_secs(3600), test(supervisor)).await.expect("within an hour of simulated time");
    });
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(120), wait).await.unwrap_or_else(|_| panic!("no {what} within two minutes of simulated time"));
}

async fn alive(lab: &Lab, key: &str) -> Post<Subject> {
    until("living actor", || lab.family().posts.borrow().contains_key(key)).await;
    lab.family().posts.borrow()[key].clone()
}

async fn say(lab: &Lab, key: &str, what: Say) -> Option<u32> {
    alive(lab, key).await.ask(what).await
}

fn failures(lab: &Lab) -> Vec<&'static str> {
    lab.family().failures.borrow().iter().map(|f| f.1).collect()
}

#[test]
fn restart_on_panic() {
    lab(async |lab| {
        assert_eq!(say(&lab, "a", Say::Count).await, Some(1));
        assert_eq!(say(&lab, "a", Say::Count).await, Some(2));
        assert_eq!(say(&lab, "a", Say::Panic).await, None, "whoever waited for an answer is told that there is none");
        assert_eq!(say(&lab, "a", Say::Count).await, Some(1), "a restart begins with fresh state");
        assert_eq!(failures(&lab), ["panic"]);
        assert_eq!(*lab.family().lives.borrow(), [("a".to_owned(), false), ("a".to_owned(), true)]);
    });
}

#[test]
fn restart_on_error() {
    lab(async |lab| {
        say(&lab, "a", Say::Count).await;
        say(&lab, "a", Say::Error).await;
        until("failure", || !failures(&lab).is_empty()).await;
        assert_eq!(failures(&lab), ["error"]);
        assert_eq!(say(&lab, "a", Say::Count).await, Some(1));
    });
}

#[test]
fn kill_of_a_frozen_actor() {
    lab(async |lab| {
        let began = Instant::now();
        alive(&lab, "a").await.tell(Say::Freeze).unwrap();
        let unheard = alive(&lab, "a").await.ask(Say::Count);
        assert_eq!(unheard.await, None, "a message to a frozen actor is answered with its end");
        assert_eq!(failures(&lab), ["frozen"]);
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(10) && took < Duration::from_secs(14), "{took:?}");
        assert_eq!(say(&lab, "a", Say::Count).await, Some(1));
    });
}

#[test]
fn quit() {
    lab(async |lab| {
        let post = alive(&lab, "a").await;
        let slow = post.ask(Say::Slowly);
        drop(post);
        let (answer, ()) = futures::join!(slow, async {
            // The message is in its mailbox; now it is asked to end.
            tokio::task::yield_now().await;
            lab.quit(&"a".to_owned());
        });
        assert_eq!(answer, Some(100), "what it has is finished");
        until("end", || lab.is_empty()).await;
        assert!(failures(&lab).is_empty());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(lab.family().lives.borrow().len(), 1, "it is not restarted");
    });
}

#[test]
fn kill() {
    lab(async |lab| {
        let slow = alive(&lab, "a").await.ask(Say::Slowly);
        let (answer, ()) = futures::join!(slow, async {
            tokio::task::yield_now().await;
            lab.kill(&"a".to_owned());
        });
        assert_eq!(answer, None, "nothing is finished");
        assert!(lab.is_empty() && failures(&lab).is_empty());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(lab.family().lives.borrow().len(), 1, "it is not restarted");
    });
}

#[test]
fn success() {
    lab(async |lab| {
        say(&lab, "a", Say::End).await;
        until("end", || lab.is_empty()).await;
        assert!(failures(&lab).is_empty(), "ending by itself is no failure");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(lab.family().lives.borrow().len(), 1);
        assert!(lab.family().posts.borrow().is_empty(), "nobody finds it any more");
    });
}

#[test]
fn a_used_up_budget_gives_up_and_a_start_begins_anew() {
    lab(async |lab| {
        for _ in 0..4 {
            say(&lab, "a", Say::Panic).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let decisions: Vec<Decision> = lab.family().failures.borrow().iter().map(|f| f.2).collect();
        assert!(matches!(decisions[..], [Decision::Restart { .. }, Decision::Restart { .. }, Decision::Restart { .. }, Decision::GiveUp]));
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert!(lab.family().posts.borrow().is_empty(), "it stays down");
        lab.start("a".into());
        assert_eq!(say(&lab, "a", Say::Count).await, Some(1));
        say(&lab, "a", Say::Panic).await;
        assert_eq!(say(&lab, "a", Say::Count).await, Some(1), "the budget is fresh");
    });
}

#[test]
fn siblings_do_not_notice() {
    lab(async |lab| {
        lab.start("b".into());
        assert_eq!(say(&lab, "b", Say::Count).await, Some(1));
        for _ in 0..4 {
            say(&lab, "a", Say::Panic).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(say(&lab, "b", Say::Count).await, Some(2), "the same life goes on");
        say(&lab, "b", Say::Panic).await;
        assert_eq!(say(&lab, "b", Say::Count).await, Some(1), "it has a budget of its own");
    });
}

#[test]
fn a_busy_actor_is_not_frozen() {
    lab(async |lab| {
        for _ in 0..60 {
            assert_eq!(say(&lab, "a", Say::Slowly).await, Some(100));
        }
        assert!(failures(&lab).is_empty());
    });
}

#[test]
fn starting_twice_is_starting_once() {
    lab(async |lab| {
        lab.start("a".into());
        lab.start("a".into());
        say(&lab, "a", Say::Count).await;
        assert_eq!(lab.family().lives.borrow().len(), 1);
    });
}

#[test]
fn nothing_runs_while_nothing_is_sent() {
    lab(async |lab| {
        say(&lab, "a", Say::Count).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let before = lab.looks();
        assert!(before > 0, "it looked once after the message");
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(lab.looks(), before);
    });
}
