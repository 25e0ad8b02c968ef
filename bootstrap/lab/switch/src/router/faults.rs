//! The faults that are active, and what they do to one direction of a connection.

use std::time::{Duration, Instant};

use crate::connection::Flow;
use crate::fault::{Fault, FaultState, Filter};
use crate::shaper::{Mark, Shape, Strike};

/// The active faults, oldest first.
#[derive(Debug, Default)]
pub(super) struct Faults {
    active: Vec<Active>,
    last_id: u32,
}

#[derive(Clone, Copy, Debug)]
struct Active {
    id: u32,
    fault: Fault,
    filter: Filter,
    /// Absent: until it fires or is cleared.
    until: Option<Instant>,
}

impl Faults {
    /// Adds a fault; its number.
    pub(super) fn inject(&mut self, fault: Fault, filter: Filter, lasts: Option<Duration>, now: Instant) -> u32 {
        self.last_id += 1;
        let until = lasts.and_then(|lasts| now.checked_add(lasts));
        self.active.push(Active { id: self.last_id, fault, filter, until });
        self.last_id
    }

    /// Ends the faults with these numbers. False if there were none.
    pub(super) fn end(&mut self, ids: &[u32]) -> bool {
        self.remove(|active| ids.contains(&active.id))
    }

    /// Ends the faults whose time is over. False if there were none.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        self.remove(|active| active.until.is_some_and(|until| until <= now))
    }

    /// When faults end by themselves.
    pub(super) fn ends(&self) -> impl Iterator<Item = Instant> {
        self.active.iter().filter_map(|active| active.until)
    }

    /// The number and the filter of the fault `id`, or of all.
    pub(super) fn find(&self, id: Option<u32>) -> Vec<(u32, Filter)> {
        let is_meant = |active: &&Active| id.is_none_or(|id| id == active.id);
        self.active.iter().filter(is_meant).map(|active| (active.id, active.filter)).collect()
    }

    /// Whether to refuse a request for this connection.
    pub(super) fn refuse(&self, flow: Flow) -> bool {
        self.active.iter().any(|active| {
            matches!(active.fault, Fault::Refuse) && active.filter.matches_request(flow.source, flow.destination)
        })
    }

    /// What the faults do to one direction: what lasts, and what strikes once.
    pub(super) fn on(&self, flow: Flow) -> (Shape, Vec<Mark>) {
        let mut shape = Shape::default();
        let mut marks = Vec::new();
        for active in self.active.iter().filter(|active| active.filter.matches(flow.source, flow.destination)) {
            match active.fault {
                Fault::Stall => shape.is_stalled = true,
                Fault::Dribble => shape.is_dribbling = true,
                Fault::Slow { bytes_per_second } => {
                    shape.rate = Some(shape.rate.map_or(bytes_per_second, |rate| rate.min(bytes_per_second)));
                }
                Fault::Flip { after_bytes } => {
                    marks.push(Mark { fault: active.id, strike: Strike::Flip, after_bytes });
                }
                Fault::Cut { after_bytes } => {
                    marks.push(Mark { fault: active.id, strike: Strike::Cut, after_bytes });
                }
                Fault::Refuse => {}
            }
        }
        (shape, marks)
    }

    /// The state of all faults.
    pub(super) fn states(&self, now: Instant) -> Vec<FaultState> {
        let state = |active: &Active| FaultState {
            id: active.id,
            fault: active.fault,
            filter: active.filter,
            remaining: active.until.map(|until| until.saturating_duration_since(now)),
        };
        self.active.iter().map(state).collect()
    }

    fn remove(&mut self, is_over: impl Fn(&Active) -> bool) -> bool {
        let before = self.active.len();
        self.active.retain(|active| !is_over(active));
        self.active.len() != before
    }
}
