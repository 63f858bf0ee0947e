//! The state the counter service holds: pages whose right contents can be derived from three numbers.
//!
//! A page holds its own index, how often it was rewritten, and noise derived from both and a seed, so any page can be
//! checked by anybody. A page that a migration forgot to bring up to date is consistent in itself, only old: for that an
//! account over all pages' versions is kept beside them, which a stale page no longer matches. The account is one word,
//! not one per page: a table of versions would be dirtied at random too, and the dirty rate asked for would not be the one
//! that the kernel sees.

use super::frames::mix;
use std::io;
use std::ptr::NonNull;

/// Bytes of a page of state.
pub const PAGE_BYTES: usize = 4096;
const WORDS: usize = PAGE_BYTES / 8;
const HEADER_WORDS: usize = 2;

/// Anonymous memory of the process's own, in whole pages.
#[derive(Debug)]
pub(crate) struct Region {
    start: NonNull<u64>,
    words: usize,
}

// SAFETY: the mapping belongs to the region alone, and is reached only through `&self` and `&mut self`.
unsafe impl Send for Region {}

impl Region {
    /// Maps `pages` zeroed pages; `shared` makes children of a later fork see the same memory.
    pub(crate) fn map(pages: usize, shared: bool) -> io::Result<Self> {
        let bytes = pages.checked_mul(PAGE_BYTES).filter(|&b| b > 0).ok_or(io::ErrorKind::InvalidInput)?;
        let visibility = if shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                visibility | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // With huge pages one write would dirty two megabytes, and the dirty rate asked for would mean nothing.
        // A kernel without huge pages refuses the advice, which is as good.
        // SAFETY: the range is the mapping just made; the advice does not change its contents.
        unsafe { libc::madvise(at, bytes, libc::MADV_NOHUGEPAGE) };
        let start = NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, words: bytes / 8 })
    }

    pub(crate) fn as_ptr(&self) -> NonNull<u64> {
        self.start
    }

    fn words(&self) -> &[u64] {
        // SAFETY: start and length are those of a live, zero-initialised mapping, aligned to a page.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }

    fn words_mut(&mut self) -> &mut [u64] {
        // SAFETY: as in `words`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.words) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this length and nobody can reach it after this.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.words * 8) };
    }
}

/// What a look at one page gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSample {
    /// The page looked at.
    pub page: u64,
    /// How often it says it was rewritten.
    pub version: u64,
    /// Checksum of its words as they are in memory.
    pub sum: u64,
    /// Whether they are what they should be.
    pub sound: bool,
}

/// A look at all pages, a part at a time, so that whoever waits for the state waits for one part only.
///
/// The state must not be dirtied between the parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PageSweep {
    /// Pages looked at so far.
    pub pages: u64,
    /// Pages whose contents do not follow from seed, index and version.
    pub bad: u64,
    /// At the end: the versions of all pages do not match the account, so at least one page is older than it should be.
    pub stale: bool,
    account: u64,
}

/// The pages of one process.
#[derive(Debug)]
pub struct CounterState {
    region: Region,
    seed: u64,
    pages: u64,
    account: u64,
    dirtied: u64,
}

fn entry(page: u64, version: u64) -> u64 {
    mix(mix(page) ^ version)
}

fn word(base: u64, at: usize) -> u64 {
    // A counter times an odd constant, stirred: as incompressible as noise, at a fraction of a nanosecond per byte.
    let mut z = base.wrapping_add((at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    z ^ (z >> 32)
}

fn write_page(words: &mut [u64], seed: u64, page: u64, version: u64) {
    let base = entry(page, version) ^ seed;
    words[0] = page;
    words[1] = version;
    for (at, slot) in words.iter_mut().enumerate().skip(HEADER_WORDS) {
        *slot = word(base, at);
    }
}

fn sum(words: impl Iterator<Item = u64>) -> u64 {
    let mut h = 0u64;
    for w in words {
        h = h.rotate_left(5).wrapping_add(w);
    }
    mix(h)
}

/// The checksum a page has if it is what it should be.
pub fn expected_sum(seed: u64, page: u64, version: u64) -> u64 {
    let base = entry(page, version) ^ seed;
    sum([page, version].into_iter().chain((HEADER_WORDS..WORDS).map(|at| word(base, at))))
}

impl CounterState {
    /// Maps and fills at least `bytes` of state (rounded up to whole pages, at least one).
    ///
    /// # Errors
    /// What the kernel said to the mapping.
    pub fn new(bytes: u64, seed: u64) -> io::Result<Self> {
        let pages = bytes.div_ceil(PAGE_BYTES as u64).max(1);
        let count = usize::try_from(pages).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut region = Region::map(count, false)?;
        let mut account = 0u64;
        for (page, words) in (0u64..).zip(region.words_mut().chunks_exact_mut(WORDS)) {
            write_page(words, seed, page, 0);
            account = account.wrapping_add(entry(page, 0));
        }
        Ok(Self { region, seed, pages, account, dirtied: 0 })
    }

    /// Number of pages.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// How many pages were rewritten so far (a page rewritten twice counts twice).
    pub fn dirtied(&self) -> u64 {
        self.dirtied
    }

    /// What the contents are derived from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    fn page(&self, page: u64) -> &[u64] {
        let at = (page % self.pages) as usize * WORDS;
        &self.region.words()[at..at + WORDS]
    }

    /// Rewrites the page that `choice` falls on, all of it.
    pub fn dirty(&mut self, choice: u64) {
        // The high half of the product: uniform over any number of pages, without a division.
        let page = ((u128::from(choice) * u128::from(self.pages)) >> 64) as u64;
        let at = page as usize * WORDS;
        let words = &mut self.region.words_mut()[at..at + WORDS];
        let version = words[1].wrapping_add(1);
        self.account = self.account.wrapping_sub(entry(page, words[1])).wrapping_add(entry(page, version));
        write_page(words, self.seed, page, version);
        self.dirtied += 1;
    }

    /// Looks at the page that `choice` falls on.
    pub fn sample(&self, choice: u64) -> PageSample {
        let page = ((u128::from(choice) * u128::from(self.pages)) >> 64) as u64;
        self.look(page)
    }

    fn look(&self, page: u64) -> PageSample {
        let words = self.page(page);
        let version = words[1];
        let found = sum(words.iter().copied());
        let sound = words[0] == page && found == expected_sum(self.seed, page, version);
        PageSample { page, version, sum: found, sound }
    }

    /// Looks at up to `count` more pages; true once all were looked at.
    pub fn sweep(&self, sweep: &mut PageSweep, count: u64) -> bool {
        let end = self.pages.min(sweep.pages.saturating_add(count));
        for page in sweep.pages..end {
            let seen = self.look(page);
            sweep.account = sweep.account.wrapping_add(entry(page, seen.version));
            sweep.bad += u64::from(!seen.sound);
        }
        sweep.pages = end;
        sweep.stale = end == self.pages && sweep.account != self.account;
        end == self.pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirtied_state() -> CounterState {
        let mut state = CounterState::new(64 * PAGE_BYTES as u64, 9).unwrap();
        for n in 0..1000 {
            state.dirty(mix(n));
        }
        state
    }

    fn swept(state: &CounterState) -> (u64, u64, bool) {
        let mut sweep = PageSweep::default();
        while !state.sweep(&mut sweep, 7) {}
        (sweep.pages, sweep.bad, sweep.stale)
    }

    #[test]
    fn state_is_sound_after_any_number_of_rewrites() {
        let state = dirtied_state();
        assert_eq!(state.dirtied(), 1000);
        assert_eq!(swept(&state), (64, 0, false));
        assert!((0..200).all(|n| state.sample(mix(n)).sound));
    }

    #[test]
    fn a_damaged_word_is_found() {
        let mut state = dirtied_state();
        state.region.words_mut()[5 * WORDS + 77] ^= 1;
        assert_eq!(swept(&state), (64, 1, false));
    }

    #[test]
    fn a_page_that_is_only_old_is_found() {
        let mut state = dirtied_state();
        let old: Vec<u64> = state.page(3).to_vec();
        while state.page(3)[1] == old[1] {
            state.dirty(mix(state.dirtied() + 5000));
        }
        state.region.words_mut()[3 * WORDS..4 * WORDS].copy_from_slice(&old);
        assert_eq!(swept(&state), (64, 0, true));
    }

    #[test]
    fn a_client_derives_the_same_checksum() {
        let state = dirtied_state();
        let seen = state.sample(mix(17));
        assert_eq!(seen.sum, expected_sum(state.seed(), seen.page, seen.version));
    }

    #[test]
    fn size_is_rounded_up_to_whole_pages() {
        assert_eq!(CounterState::new(1, 0).unwrap().pages(), 1);
        assert_eq!(CounterState::new(4097, 0).unwrap().pages(), 2);
    }

    #[test]
    fn state_does_not_compress_by_repetition() {
        let state = dirtied_state();
        let mut words: Vec<u64> = state.region.words().to_vec();
        words.sort_unstable();
        words.dedup();
        // Only headers (small numbers) may occur twice.
        assert!(words.len() > 64 * (WORDS - HEADER_WORDS));
    }
}
