//! Ranges of whole pages and sets of them.

/// Bytes of a page on the machines that this crate supports.
pub const PAGE_BYTES: u64 = 4096;

/// Addresses of whole pages, `start` included, `end` not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageRange {
    /// Address of the first byte, a multiple of [`PAGE_BYTES`].
    pub start: u64,
    /// Address after the last byte, a multiple of [`PAGE_BYTES`].
    pub end: u64,
}

impl PageRange {
    /// The pages that hold the bytes from `start` to before `end`.
    pub fn covering(start: u64, end: u64) -> Self {
        let last = end.checked_next_multiple_of(PAGE_BYTES).unwrap_or(u64::MAX - (PAGE_BYTES - 1));
        Self { start: start - start % PAGE_BYTES, end: last }
    }

    /// Length in bytes.
    pub fn bytes(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Number of pages.
    pub fn pages(&self) -> u64 {
        self.bytes() / PAGE_BYTES
    }

    /// Whether it holds no page.
    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    fn cut(&self, other: &Self) -> Self {
        Self { start: self.start.max(other.start), end: self.end.min(other.end) }
    }
}

/// A set of pages: ranges in order of address that neither overlap nor touch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PageSet(Vec<PageRange>);

impl PageSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Its ranges, in order of address.
    pub fn ranges(&self) -> &[PageRange] {
        &self.0
    }

    /// Number of pages.
    pub fn pages(&self) -> u64 {
        self.0.iter().map(PageRange::pages).sum()
    }

    /// Length of all its pages in bytes.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(PageRange::bytes).sum()
    }

    /// Whether it holds no page.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the page at `address` is in it. O(log n).
    pub fn contains(&self, address: u64) -> bool {
        let after = self.0.partition_point(|range| range.end <= address);
        self.0.get(after).is_some_and(|range| range.start <= address)
    }

    /// Adds a range that starts where or after the last one does: O(1). Any other order is sorted in: O(n).
    pub fn push(&mut self, range: PageRange) {
        if range.is_empty() {
            return;
        }
        match self.0.last_mut() {
            Some(last) if range.start < last.start => {
                self.0.push(range);
                self.normalise();
            }
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => self.0.push(range),
        }
    }

    fn normalise(&mut self) {
        self.0.sort_unstable();
        let mut kept: usize = 0;
        for at in 1..self.0.len() {
            let next = self.0[at];
            if next.start <= self.0[kept].end {
                self.0[kept].end = self.0[kept].end.max(next.end);
            } else {
                kept += 1;
                self.0[kept] = next;
            }
        }
        self.0.truncate(kept + 1);
    }

    /// Adds the pages of another set.
    pub fn add(&mut self, other: &Self) {
        let in_order = match (self.0.last(), other.0.first()) {
            (_, None) => return,
            (None, _) => true,
            (Some(last), Some(first)) => last.end < first.start,
        };
        self.0.extend_from_slice(&other.0);
        if !in_order {
            self.normalise();
        }
    }

    /// The pages that are in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let (mut out, mut at) = (Self::new(), 0);
        for range in &self.0 {
            while other.0.get(at).is_some_and(|o| o.end <= range.start) {
                at += 1;
            }
            let mut look = at;
            while let Some(o) = other.0.get(look).filter(|o| o.start < range.end) {
                out.push(range.cut(o));
                look += 1;
            }
        }
        out
    }

    /// The pages that are in this one and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let (mut out, mut at) = (Self::new(), 0);
        for range in &self.0 {
            while other.0.get(at).is_some_and(|o| o.end <= range.start) {
                at += 1;
            }
            let (mut start, mut look) = (range.start, at);
            while let Some(o) = other.0.get(look).filter(|o| o.start < range.end) {
                out.push(PageRange { start, end: o.start });
                start = start.max(o.end);
                look += 1;
            }
            out.push(PageRange { start, end: range.end });
        }
        out
    }
}

impl FromIterator<PageRange> for PageSet {
    fn from_iter<I: IntoIterator<Item = PageRange>>(ranges: I) -> Self {
        let mut set = Self(ranges.into_iter().filter(|range| !range.is_empty()).collect());
        set.normalise();
        set
    }
}

impl<'a> IntoIterator for &'a PageSet {
    type Item = &'a PageRange;
    type IntoIter = std::slice::Iter<'a, PageRange>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn range(start: u64, pages: u64) -> PageRange {
        PageRange { start: start * PAGE_BYTES, end: (start + pages) * PAGE_BYTES }
    }

    fn singly(set: &PageSet) -> BTreeSet<u64> {
        set.into_iter().flat_map(|r| (r.start..r.end).step_by(PAGE_BYTES as usize)).collect()
    }

    fn sets() -> impl Strategy<Value = (PageSet, BTreeSet<u64>)> {
        proptest::collection::vec((0u64..60, 0u64..6), 0..12).prop_map(|list| {
            let ranges: Vec<_> = list.into_iter().map(|(at, n)| range(at, n)).collect();
            let model = ranges
                .iter()
                .flat_map(|r| (r.start..r.end).step_by(PAGE_BYTES as usize))
                .collect::<BTreeSet<_>>();
            (ranges.into_iter().collect(), model)
        })
    }

    proptest! {
        #[test]
        fn a_set_holds_the_pages_it_was_made_of((set, model) in sets()) {
            prop_assert_eq!(singly(&set), model.clone());
            prop_assert_eq!(set.pages(), model.len() as u64);
            prop_assert!(set.ranges().windows(2).all(|w| w[0].end < w[1].start));
            for page in 0..70 {
                prop_assert_eq!(set.contains(page * PAGE_BYTES), model.contains(&(page * PAGE_BYTES)));
            }
        }

        #[test]
        fn pushing_in_any_order_gives_the_same_set((set, model) in sets(), (other, more) in sets()) {
            let mut pushed = PageSet::new();
            for r in other.ranges().iter().rev().chain(set.ranges()) {
                pushed.push(*r);
            }
            prop_assert_eq!(singly(&pushed), &model | &more);
        }

        #[test]
        fn sets_add_cut_and_subtract_as_sets_do((a, ma) in sets(), (b, mb) in sets()) {
            prop_assert_eq!(singly(&a.intersection(&b)), &ma & &mb);
            prop_assert_eq!(singly(&a.difference(&b)), &ma - &mb);
            let mut sum = a.clone();
            sum.add(&b);
            prop_assert_eq!(singly(&sum), &ma | &mb);
            prop_assert!(sum.ranges().windows(2).all(|w| w[0].end < w[1].start));
        }
    }

    #[test]
    fn a_range_covers_whole_pages() {
        assert_eq!(PageRange::covering(1, 4097), range(0, 2));
        assert_eq!(PageRange::covering(4096, 8192), range(1, 1));
        assert!(PageRange::covering(5, u64::MAX).end.is_multiple_of(PAGE_BYTES));
    }
}
