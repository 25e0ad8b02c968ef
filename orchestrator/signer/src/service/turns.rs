//! Whose turn it is at the security module, which answers one question at a time; or at the upstreams.
//!
//! An [`Asker`] has one question under way and [`WAITING`] more in its own line; a further one is turned away. Those whose
//! turn it is wait in one line, where each asker has one place at most. So an asker who floods waits for itself, and
//! everybody else for one question of each other asker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

use super::seats::Source;
use crate::permission::Caller;

/// How many questions of one asker wait behind the one that is under way.
pub(super) const WAITING: usize = 8;

/// Questions under way at once, of all askers. The module's own line is longer.
pub(super) const UNDER_WAY: usize = 16;

/// Who asks: a client of the configuration, wherever it is, and else whoever is at that address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asker {
    Client(String),
    Source(Source),
}

/// The lines of one service.
pub(super) struct Turns {
    lines: Mutex<BTreeMap<Asker, Line>>,
    under_way: Semaphore,
}

struct Line {
    /// One permit: whoever has it is at its head.
    head: Arc<Semaphore>,
    /// How many are in it, at its head or not.
    len: usize,
}

/// A place in an asker's line; given back when it is dropped.
pub(super) struct Place<'a> {
    turns: &'a Turns,
    asker: Asker,
    head: Arc<Semaphore>,
}

/// A question under way.
pub(super) struct Turn<'a> {
    _head: SemaphorePermit<'a>,
    _under_way: SemaphorePermit<'a>,
}

impl Asker {
    pub(super) fn of(caller: &Caller, source: Source) -> Self {
        match caller {
            Caller::Client { name, .. } => Self::Client(name.clone()),
            Caller::Anyone | Caller::Unknown | Caller::Anonymous => Self::Source(source),
        }
    }
}

impl Turns {
    pub(super) fn new() -> Self {
        Self { lines: Mutex::default(), under_way: Semaphore::new(UNDER_WAY) }
    }

    /// A place at the end of the asker's line. None: it is full.
    pub(super) fn line_up(&self, asker: Asker) -> Option<Place<'_>> {
        let mut lines = self.lines();
        let line = lines.entry(asker.clone()).or_insert_with(|| Line { head: Arc::new(Semaphore::new(1)), len: 0 });
        if line.len > WAITING {
            return None;
        }
        line.len += 1;
        let head = Arc::clone(&line.head);
        drop(lines);
        Some(Place { turns: self, asker, head })
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<Asker, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Waits for this place's turn.
    pub(super) async fn turn(&self) -> Result<Turn<'_>, AcquireError> {
        let head = self.head.acquire().await?;
        Ok(Turn { _head: head, _under_way: self.turns.under_way.acquire().await? })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut lines = self.turns.lines();
        if let Some(line) = lines.get_mut(&self.asker) {
            line.len -= 1;
            if line.len == 0 {
                lines.remove(&self.asker);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn source(last: u8) -> Asker {
        Asker::Source(Source::of([192, 0, 2, last].into()))
    }

    /// Whether the turn has come.
    async fn comes(place: &Place<'_>) -> bool {
        timeout(Duration::from_secs(1), place.turn()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_floods_waits_for_itself_and_holds_up_nobody_else() {
        let turns = Turns::new();
        let flood: Vec<_> = (0..=WAITING).map(|_| turns.line_up(source(1)).unwrap()).collect();
        assert!(turns.line_up(source(1)).is_none(), "its line is full");
        let (first, second) = (flood.first().unwrap(), flood.get(1).unwrap());
        let under_way = first.turn().await.unwrap();
        assert!(!comes(second).await);
        let other = turns.line_up(source(2)).unwrap();
        assert!(comes(&other).await);
        drop(under_way);
        assert!(comes(second).await);
    }

    #[tokio::test(start_paused = true)]
    async fn of_all_together_a_few_are_under_way_and_the_others_wait() {
        let turns = Turns::new();
        let places: Vec<_> = (0..17).map(|last| turns.line_up(source(last)).unwrap()).collect();
        let (late, early) = places.split_last().unwrap();
        let mut under_way = Vec::new();
        for place in early {
            under_way.push(place.turn().await.unwrap());
        }
        assert_eq!(under_way.len(), UNDER_WAY);
        assert!(!comes(late).await);
        under_way.pop();
        assert!(comes(late).await);
    }

    #[test]
    fn who_has_gone_leaves_nothing_behind() {
        let turns = Turns::new();
        for last in 0..=u8::MAX {
            drop([turns.line_up(source(last)), turns.line_up(source(last))]);
        }
        assert!(turns.lines().is_empty());
        let full: Vec<_> = (0..=WAITING).map(|_| turns.line_up(source(1)).unwrap()).collect();
        drop(full);
        assert!(turns.line_up(source(1)).is_some());
    }

    #[test]
    fn a_client_of_the_configuration_is_one_asker_from_wherever_it_comes() {
        let (here, there) = (Source::of([192, 0, 2, 1].into()), Source::of([192, 0, 2, 2].into()));
        let client = Caller::Client { name: "pay.example".to_owned(), permission: Arc::default() };
        assert_eq!(Asker::of(&client, here), Asker::of(&client, there));
        assert_ne!(Asker::of(&Caller::Anyone, here), Asker::of(&Caller::Anyone, there));
        assert_ne!(Asker::of(&client, here), Asker::of(&Caller::Unknown, here));
    }
}
