//! Overrides that servers share: each tells the others all that it knows, and takes over what it does not.
//! It comes to the same whatever the order, and however often.

use std::io;

use super::{COUNT_MAX, Override, Overrides, file};
use crate::clock::Timestamp;

/// Numbers below this one are those of a server that shared none.
const SHARED_ID_MIN: u64 = 1 << 40;

/// What servers tell each other of an override.
#[derive(Clone, Debug, PartialEq)]
pub enum SharedOverride {
    /// It is pulled.
    Pulled(Box<Override>),
    /// It was let go before its time.
    LetGo {
        /// Its number.
        id: u64,
        /// When it would have been over: nobody needs to know afterwards.
        until: Timestamp,
    },
}

impl SharedOverride {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> u64 {
        match self {
            SharedOverride::Pulled(pulled) => pulled.id,
            SharedOverride::LetGo { id, .. } => *id,
        }
    }

    /// When it is over.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        match self {
            SharedOverride::Pulled(pulled) => pulled.until,
            SharedOverride::LetGo { until, .. } => *until,
        }
    }
}

impl SharedOverride {
    /// The same by another clock.
    #[must_use]
    pub fn by_clock(self, time: impl Fn(Timestamp) -> Timestamp) -> SharedOverride {
        match self {
            SharedOverride::Pulled(mut pulled) => {
                (pulled.since, pulled.until) = (time(pulled.since), time(pulled.until));
                SharedOverride::Pulled(pulled)
            }
            SharedOverride::LetGo { id, until } => SharedOverride::LetGo { id, until: time(until) },
        }
    }
}

impl Overrides {
    /// From now on other servers are told of them: numbers are such that no other gives them, and those of
    /// before become so.
    ///
    /// # Errors
    /// When that cannot be written; it is so all the same.
    pub fn share(&self) -> io::Result<()> {
        let mut book = self.book();
        book.are_shared = true;
        let mut list = self.list();
        let of_one = list.iter_mut().filter(|pulled| pulled.id < SHARED_ID_MIN);
        if of_one.map(|pulled| pulled.id = book.take_id(pulled.since)).count() == 0 {
            return Ok(());
        }
        let written = self.write(&book, &list);
        self.put_in_force(list);
        written
    }

    /// All that is known of overrides whose time is not over.
    #[must_use]
    pub fn known(&self) -> Vec<SharedOverride> {
        let now = self.clock.now();
        let book = self.book();
        let let_go = book.let_go.iter().filter(|(_, until)| now < **until);
        let let_go = let_go.map(|(id, until)| SharedOverride::LetGo { id: *id, until: *until });
        let pulled = self.list().into_iter().map(|it| SharedOverride::Pulled(Box::new(it)));
        let_go.chain(pulled).collect()
    }

    /// Takes over what other servers know. Says whether anything changed. What may not be asked for, and
    /// what is more than [`COUNT_MAX`], is passed over.
    ///
    /// # Errors
    /// When that cannot be written; it is in force all the same.
    pub fn take_over(&self, told: &[SharedOverride]) -> io::Result<bool> {
        let (now, mut book) = (self.clock.now(), self.book());
        let (mut list, mut is_changed) = (self.list(), false);
        for told in told.iter().filter(|told| now < told.until()) {
            if let SharedOverride::LetGo { id, until } = *told
                && !book.let_go.contains_key(&id)
            {
                book.note_let_go(id, until, now);
                book.next_id = book.next_id.max(id.saturating_add(1));
                list.retain(|pulled| pulled.id != id);
                is_changed = true;
            }
        }
        for told in told {
            let SharedOverride::Pulled(pulled) = told else { continue };
            let is_known = book.let_go.contains_key(&pulled.id)
                || list.iter().any(|known| known.id == pulled.id);
            let is_allowed = now < pulled.until && file::wanted(pulled).check().is_ok();
            if !is_known && is_allowed && list.len() < COUNT_MAX {
                list.push((**pulled).clone());
                book.next_id = book.next_id.max(pulled.id.saturating_add(1));
                is_changed = true;
            }
        }
        if !is_changed {
            return Ok(false);
        }
        list.sort_by_key(|pulled| pulled.id);
        let written = self.write(&book, &list);
        self.put_in_force(list);
        written.map(|()| true)
    }
}
