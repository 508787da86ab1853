//! A kernel for the tests: clock, journal, overflow map and loops in this thread. How packets reach it is `connection`.

use std::cell::RefCell;
use std::collections::BTreeMap;

use sockmeter_ebpf::conn::{Conn, Entry, Outside, Steps};
use sockmeter_ebpf::http::scan::{self, Scan};
use sockmeter_ebpf::http::side::Side;
use sockmeter_ebpf::http::window::Window;
use sockmeter_ebpf::layout::LOSSES;
use sockmeter_ebpf::message;
use sockmeter_ebpf::posting::Posting;

/// What can run out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Postings that the journal holds until it is drained.
    pub(crate) journal: usize,
    /// Entries of the overflow map.
    pub(crate) deep: usize,
    /// Pieces that one direction may keep.
    pub(crate) stash: usize,
}

impl Bounds {
    /// More than any conversation of these tests needs.
    pub(crate) const AMPLE: Self = Self { journal: usize::MAX, deep: 16_384, stash: 256 };
}

/// A posting and the head behind it, as a reader of the journal finds them.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) posting: Posting,
    pub(crate) head: Vec<u8>,
}

/// Everything that the kernel side keeps outside of a connection.
#[derive(Debug)]
struct State {
    bounds: Bounds,
    clock: u64,
    steps: u64,
    posts: u64,
    journal: Vec<Record>,
    spilled: Vec<Posting>,
    deep: BTreeMap<(u64, u32), *mut Entry>,
    /// The kernel frees a removed entry only when nobody can be looking at it any more.
    removed: Vec<*mut Entry>,
    losses: [u64; LOSSES as usize],
}

thread_local! {
    static STATE: RefCell<State> = const {
        RefCell::new(State {
            bounds: Bounds::AMPLE,
            clock: 0,
            steps: 0,
            posts: 0,
            journal: Vec::new(),
            spilled: Vec::new(),
            deep: BTreeMap::new(),
            removed: Vec::new(),
            losses: [0; LOSSES as usize],
        })
    };
}

fn with<T>(f: impl FnOnce(&mut State) -> T) -> T {
    STATE.with(|state| f(&mut state.borrow_mut()))
}

/// The kernel. Like the real one it has no state of its own: its maps are found by their names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Host;

impl Host {
    /// Empties everything.
    pub(crate) fn begin(bounds: Bounds) {
        with(|state| {
            for entry in std::mem::take(&mut state.deep).into_values().chain(std::mem::take(&mut state.removed)) {
                // SAFETY: made by `Box::into_raw` in `deep_create`, and in one of the two lists only.
                drop(unsafe { Box::from_raw(entry) });
            }
            state.bounds = bounds;
            state.clock = 0;
            state.steps = 0;
            state.posts = 0;
            state.journal.clear();
            state.spilled.clear();
            state.losses = [0; LOSSES as usize];
        });
    }

    /// Reads the journal, which makes room in it.
    pub(crate) fn drain() -> Vec<Record> {
        with(|state| std::mem::take(&mut state.journal))
    }

    /// Postings of connections that ended while the journal was full.
    pub(crate) fn spilled() -> Vec<Posting> {
        with(|state| state.spilled.clone())
    }

    /// Steps of all loops since the beginning.
    pub(crate) fn steps() -> u64 {
        with(|state| state.steps)
    }

    /// How often the time was taken since the beginning.
    pub(crate) fn clock_reads() -> u64 {
        with(|state| state.clock)
    }

    /// Requests in the overflow map.
    pub(crate) fn deep_entries() -> usize {
        with(|state| state.deep.len())
    }

    /// How often `what` (`layout::LOSS_...`) was counted.
    pub(crate) fn losses(what: u32) -> u64 {
        with(|state| state.losses[usize::try_from(what).unwrap()])
    }

    /// How often something was to be posted, whether there was room or not.
    pub(crate) fn posts() -> u64 {
        with(|state| state.posts)
    }

    fn append(posting: &Posting, head: &[u8]) -> bool {
        with(|state| {
            state.posts += 1;
            let room = state.journal.len() < state.bounds.journal;
            if room {
                state.journal.push(Record { posting: *posting, head: head.to_vec() });
            }
            room
        })
    }
}

impl Outside for Host {
    fn now(&mut self) -> u64 {
        with(|state| {
            state.clock += 1;
            state.clock
        })
    }

    fn post(&mut self, posting: &Posting) -> bool {
        Self::append(posting, &[])
    }

    fn post_entry(&mut self, entry: &Entry) -> bool {
        Self::append(&entry.posting, &entry.head[..usize::from(entry.posting.head_len)])
    }

    fn spill(&mut self, posting: &Posting) {
        with(|state| state.spilled.push(*posting));
    }

    fn deep_create(&mut self, cookie: u64, number: u32) -> *mut Entry {
        with(|state| {
            if state.deep.len() >= state.bounds.deep {
                return std::ptr::null_mut();
            }
            let entry = Box::into_raw(Box::new(Entry::ZERO));
            state.removed.extend(state.deep.insert((cookie, number), entry));
            entry
        })
    }

    fn deep(&mut self, cookie: u64, number: u32) -> *mut Entry {
        with(|state| state.deep.get(&(cookie, number)).copied().unwrap_or(std::ptr::null_mut()))
    }

    fn deep_remove(&mut self, cookie: u64, number: u32) {
        with(|state| {
            let entry = state.deep.remove(&(cookie, number));
            state.removed.extend(entry);
        });
    }

    fn take(busy: &mut u32) -> bool {
        std::mem::replace(busy, 1) == 0
    }

    fn give(busy: &mut u32) {
        *busy = 0;
    }

    fn lost(&mut self, what: u32) {
        with(|state| state.losses[usize::try_from(what).unwrap()] += 1);
    }

    fn line(side: &mut Side, window: &mut Window, feed: u32) -> bool {
        scan::line(side, window, feed)
    }

    fn block(side: &mut Side, window: &mut Window, from: u32, end: u32) -> bool {
        scan::block::<Self>(side, window, from, end)
    }

    fn scan(side: &mut Side, window: &mut Window, len: u32) -> Scan {
        scan::lines::<Self>(side, window, len);
        let found = scan::scan::<Self>(side, window, len);
        window.keep_result(&found);
        window.result(found.stop)
    }

    fn request_head(conn: &mut Conn, position: u64) -> bool {
        message::request_head(conn, &mut Self, position)
    }

    fn answer_head(conn: &mut Conn, position: u64) -> bool {
        message::answer_head(conn, &mut Self, position)
    }

    fn message_ended(conn: &mut Conn, out: bool, position: u64, ended: u64) {
        message::message_ended(conn, &mut Self, out, position, ended);
    }

    fn repeat<S: Steps>(times: u32, steps: &mut S) {
        for _ in 0..times {
            with(|state| state.steps += 1);
            if !steps.step() {
                break;
            }
        }
    }
}
