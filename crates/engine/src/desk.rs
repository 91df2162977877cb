//! What the engine has in memory: the queue, and a mailbox for every build that is not over.
//!
//! Everything here can be made anew from the store; nothing here waits.

use std::collections::HashMap;

use api::codebuild::Build;
use store::records::Scope;
use tokio::sync::{mpsc, oneshot};

use crate::driver::Live;
use crate::error::Result;
use crate::queue::{Limits, Load, Queue, Running, Standing, Waiting};

/// What a build's driver is asked from outside.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Stop the build; answered with its document once the request is stored.
    Stop { answer: oneshot::Sender<Result<Build>> },
}

pub(crate) type Mailbox = mpsc::UnboundedReceiver<Ask>;

/// A build in the queue has nobody yet to read its mail.
#[derive(Debug)]
struct Unopened {
    scope: Scope,
    mailbox: Mailbox,
    /// Kept for builds that start at once, so that they need not be read from the store again.
    live: Option<Box<Live>>,
}

/// A build that somebody has to start driving.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) scope: Scope,
    pub(crate) build_id: String,
    pub(crate) mailbox: Mailbox,
    pub(crate) live: Option<Box<Live>>,
    pub(crate) why: Why,
}

/// A build that joins the queue.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// Just accepted.
    Live(Box<Live>),
    /// Accepted before a restart.
    Stored(Scope),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The queue let it through.
    Admitted,
    /// It has mail that must not wait for the queue.
    Stopped,
    /// Its time in the queue is over.
    Expired,
}

#[derive(Debug)]
pub(crate) struct Desk {
    queue: Queue,
    mail: HashMap<String, mpsc::UnboundedSender<Ask>>,
    unopened: HashMap<String, Unopened>,
    /// How many builds are over while something of them is still there.
    untidy: usize,
}

impl Desk {
    pub(crate) fn new(limits: Limits) -> Desk {
        Desk { queue: Queue::new(limits), mail: HashMap::new(), unopened: HashMap::new(), untidy: 0 }
    }

    /// A place in the queue and a mailbox for a build that is about to be accepted; none if the queue is full.
    pub(crate) fn reserve(&mut self, build_id: &str) -> Option<Mailbox> {
        self.queue.reserve().then(|| self.open_mailbox(build_id))
    }

    /// As [`Desk::reserve`], for the next try of a build that is just leaving: a full queue does not refuse it.
    pub(crate) fn reserve_next_try(&mut self, build_id: &str) -> Mailbox {
        self.queue.reserve_beyond();
        self.open_mailbox(build_id)
    }

    /// The build was not accepted after all.
    pub(crate) fn give_back(&mut self, build_id: &str) {
        self.queue.give_back();
        self.mail.remove(build_id);
    }

    pub(crate) fn open_mailbox(&mut self, build_id: &str) -> Mailbox {
        let (mail, mailbox) = mpsc::unbounded_channel();
        self.mail.insert(build_id.to_string(), mail);
        mailbox
    }

    /// Queues an accepted build. It comes back at once if it has been stopped already.
    pub(crate) fn arrive(&mut self, build: Waiting, mailbox: Mailbox, live: Arrival) -> Option<Taken> {
        let build_id = build.build_id.clone();
        let (scope, live) = match live {
            Arrival::Live(live) => (live.scope.clone(), Some(live)),
            Arrival::Stored(scope) => (scope, None),
        };
        if !mailbox.is_empty() {
            return Some(Taken { scope, build_id, mailbox, live, why: Why::Stopped });
        }
        self.queue.arrive(build);
        self.unopened.insert(build_id, Unopened { scope, mailbox, live });
        None
    }

    /// Forgets a reservation that `arrive` has used up.
    pub(crate) fn reservation_used(&mut self) {
        self.queue.give_back();
    }

    /// Counts a build that runs already.
    pub(crate) fn occupy(&mut self, build_id: &str, running: Running) {
        self.queue.occupy(build_id, running);
    }

    /// Why a build waits; none if it does not.
    pub(crate) fn standing(&self, build_id: &str) -> Option<Standing> {
        self.queue.standing(build_id)
    }

    /// Takes out every build that may start now.
    pub(crate) fn admit(&mut self) -> Vec<Taken> {
        let admitted = self.queue.admit();
        admitted.into_iter().filter_map(|build_id| self.take(build_id, Why::Admitted)).collect()
    }

    /// Builds that go on waiting are read from the store when their time comes.
    pub(crate) fn forget_live(&mut self, build_id: &str) {
        if let Some(waiting) = self.unopened.get_mut(build_id) {
            waiting.live = None;
        }
    }

    pub(crate) fn expire(&mut self, uptime_ms: i64) -> Vec<Taken> {
        let expired = self.queue.expire(uptime_ms);
        expired.into_iter().filter_map(|build_id| self.take(build_id, Why::Expired)).collect()
    }

    pub(crate) fn load(&self) -> Load {
        self.queue.load()
    }

    pub(crate) fn next_deadline(&self) -> Option<i64> {
        self.queue.next_deadline()
    }

    /// Puts an ask into a build's mailbox; drops it if the build is over, or unknown. A build in the queue is taken
    /// out of it, for its driver to be started.
    pub(crate) fn ask(&mut self, build_id: &str, ask: Ask) -> Option<Taken> {
        self.mail.get(build_id)?.send(ask).ok()?;
        self.queue.withdraw(build_id).then(|| self.take(build_id.to_string(), Why::Stopped))?
    }

    /// A driver lets go of its build, which has its place no more.
    pub(crate) fn leave(&mut self, build_id: &str) {
        self.queue.leave(build_id);
        self.mail.remove(build_id);
    }

    /// A build gives its place back and keeps its mailbox.
    pub(crate) fn free(&mut self, build_id: &str) {
        self.queue.leave(build_id);
    }

    /// As [`Desk::leave`], by a driver that tidies up after a build that is over.
    pub(crate) fn leave_untidy(&mut self, build_id: &str) {
        self.leave(build_id);
        self.untidy += 1;
    }

    pub(crate) fn tidied_up(&mut self) {
        self.untidy -= 1;
    }

    /// Whether a build waits or is being driven.
    pub(crate) fn has(&self, build_id: &str) -> bool {
        self.mail.contains_key(build_id)
    }

    /// Whether no build is being driven, nor tidied up after.
    pub(crate) fn is_idle(&self) -> bool {
        self.mail.len() == self.unopened.len() && self.untidy == 0
    }

    fn take(&mut self, build_id: String, why: Why) -> Option<Taken> {
        let Unopened { scope, mailbox, live } = self.unopened.remove(&build_id)?;
        Some(Taken { scope, build_id, mailbox, live, why })
    }
}
