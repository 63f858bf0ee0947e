//! When answers came around the longest wait: the last ones before it, and the first ones from its end.

use std::collections::VecDeque;
use std::time::SystemTime;

/// The most answers that are kept on each side of a wait.
pub const MOST_ANSWERS: usize = 100;

/// When the newest answers came, oldest first. It takes its memory once, and none for each packet.
pub(super) struct Newest(VecDeque<SystemTime>);

impl Newest {
    pub(super) fn new() -> Self {
        Self(VecDeque::with_capacity(MOST_ANSWERS))
    }

    pub(super) fn add(&mut self, at: SystemTime) {
        if self.0.len() == MOST_ANSWERS {
            self.0.pop_front();
        }
        self.0.push_back(at);
    }

    /// Those that came until a wait began.
    pub(super) fn until(&self, since: SystemTime) -> impl Iterator<Item = SystemTime> {
        self.0.iter().copied().filter(move |at| *at <= since)
    }
}

/// The answers around the longest wait so far.
#[derive(Default)]
pub(super) struct Around {
    before: Vec<SystemTime>,
    after: Vec<SystemTime>,
}

impl Around {
    /// A longer wait than all before is over: what came before it is kept, and what comes from now on is behind it.
    pub(super) fn longest(&mut self, newest: Option<&Newest>, since: SystemTime) {
        self.before.clear();
        self.before.extend(newest.into_iter().flat_map(|newest| newest.until(since)));
        self.after.clear();
        self.after.reserve_exact(MOST_ANSWERS);
    }

    /// An answer came after it, or is the one that ended it.
    pub(super) fn add(&mut self, at: SystemTime) {
        if self.after.len() < MOST_ANSWERS {
            self.after.push(at);
        }
    }

    pub(super) fn tell(&self, since: SystemTime) -> Answers {
        Answers { since: Some(since), at: [&self.before[..], &self.after[..]].concat() }
    }
}

/// When answers came around a wait.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answers {
    /// When the wait began; `None` where nobody waited.
    pub since: Option<SystemTime>,
    /// When data came that had not come before: at most [`MOST_ANSWERS`] times until then, and as many from the end of the wait on.
    pub at: Vec<SystemTime>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
    }

    #[test]
    fn the_last_before_and_the_first_after_are_kept_in_memory_that_does_not_grow() {
        let mut newest = Newest::new();
        (0..1000).for_each(|ms| newest.add(at(ms)));
        let mut around = Around::default();
        around.longest(Some(&newest), at(999));
        (1500..3000).for_each(|ms| around.add(at(ms)));
        let told = around.tell(at(999));
        let expected: Vec<SystemTime> = (900..1000).chain(1500..1600).map(at).collect();
        assert_eq!((told.since, told.at), (Some(at(999)), expected));
        assert_eq!(newest.0.capacity(), MOST_ANSWERS);
        let (before, after) = (around.before.capacity(), around.after.capacity());
        (0..50).for_each(|_| around.longest(Some(&newest), at(999)));
        assert_eq!((around.before.capacity(), around.after.capacity()), (before, after));
        around.longest(None, at(999));
        assert_eq!(around.tell(at(999)).at, []);
    }
}
