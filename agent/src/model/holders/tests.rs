//! Places, jobs and containers from values, with a store that outlives the books, as the kernel's does.
#![expect(clippy::unwrap_used, reason = "tests")]
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sockmeter_ebpf::layout::books::HOLDER;

use super::*;
use crate::model::StoreError;
use crate::owner::{Process, Rule};
use crate::snapshot::{PlaceTotals, Standing};

mod listed;

/// A store that outlives the books, as the kernel's does.
#[derive(Debug, Clone, Default)]
struct Kept(Rc<RefCell<BTreeMap<u32, [u8; HOLDER]>>>);

impl HolderStore for Kept {
    fn save(&mut self, id: u32, record: &[u8; HOLDER]) -> Result<(), StoreError> {
        self.0.borrow_mut().insert(id, *record);
        Ok(())
    }

    fn remove(&mut self, id: u32) -> Result<(), StoreError> {
        self.0.borrow_mut().remove(&id).map(drop).ok_or_else(|| StoreError("not there".to_owned()))
    }

    fn most(&self) -> usize {
        100
    }

    fn all(&self) -> Vec<(u32, [u8; HOLDER])> {
        self.0.borrow().iter().map(|(id, record)| (*id, *record)).collect()
    }
}

const SECOND: u64 = 1_000_000_000;

fn holders(store: &Kept, jobs: usize) -> Holders<Kept> {
    let bounds = HolderBounds { jobs, containers: 10, keep: Duration::from_mins(1) };
    Holders::open(store.clone(), Rules::default(), bounds)
}

fn place(slot: u32, path: Option<&str>, bytes: u64, gone: Option<u64>) -> PlaceBytes {
    let key = PlaceKey { cgroups: [u64::from(slot) + 100, 0, 0, 0, 0] };
    let totals = PlaceTotals { key, received: bytes, sent: 2 * bytes, first: u64::from(slot) };
    let paths = Arc::new(vec![path.map(|path| path.as_bytes().to_vec())]);
    PlaceBytes { slot, totals, standing: Standing { paths, gone } }
}

fn snapshot(now: u64, places: &[PlaceBytes]) -> Snapshot {
    Snapshot { now, places: places.to_vec(), ..Snapshot::default() }
}

fn jobs(sums: &Sums) -> Vec<(&str, u64)> {
    sums.jobs.iter().map(|(job, sum)| (job.as_str(), sum.bytes[0])).collect()
}

/// All bytes received, whoever has them.
fn all(sums: &Sums) -> u64 {
    sums.jobs.values().map(|sum| sum.bytes[0]).sum::<u64>() + sums.other_jobs[0] + sums.no_job[0]
}

#[test]
fn bytes_go_to_their_job_or_to_none() {
    let mut holders = holders(&Kept::default(), 10);
    let mut snapshot = snapshot(
        SECOND,
        &[
            place(1, Some("/ffrtmp/a"), 1, None),
            place(2, Some("/ffrtmp/a/inner"), 10, None),
            place(3, Some("/system.slice/x.service/ffrtmp/b"), 100, None),
            place(4, Some("/system.slice/x.service"), 1_000, None),
            place(5, None, 10_000, None),
        ],
    );
    snapshot.overflow = [100_000, 0];
    holders.note(&snapshot);
    let sums = holders.sums(&snapshot);
    assert_eq!(jobs(&sums), [("a", 11), ("b", 100)]);
    assert_eq!((sums.no_job, sums.other_jobs), ([1_000, 2_000], [110_000, 20_000]));
    let units: Vec<_> = sums.containers.iter().map(|(labels, sum)| (labels.unit.as_str(), sum.bytes[0])).collect();
    assert_eq!(units, [("x.service", 1_100)]);
    assert_eq!(all(&sums), 111_111);
}

#[test]
fn the_first_jobs_have_series_and_the_rest_are_others_for_good() {
    let store = Kept::default();
    let mut first = holders(&store, 2);
    let names = ["/ffrtmp/a", "/ffrtmp/b", "/ffrtmp/c"];
    let places: Vec<_> = (1..).zip(names).map(|(slot, name)| place(slot, Some(name), 10, None)).collect();
    // Whatever the order of the map.
    let backwards: Vec<_> = places.iter().rev().cloned().collect();
    first.note(&snapshot(SECOND, &backwards));
    assert_eq!(jobs(&first.sums(&snapshot(SECOND, &places))), [("a", 10), ("b", 10)]);
    assert_eq!(first.sums(&snapshot(SECOND, &places)).other_jobs, [10, 20]);
    // With more room, and after a restart, what is with the others stays there.
    let mut second = holders(&store, 9);
    second.note(&snapshot(SECOND, &places));
    let sums = second.sums(&snapshot(SECOND, &places));
    assert_eq!((jobs(&sums), sums.other_jobs), (vec![("a", 10), ("b", 10)], [10, 20]));
}

#[test]
fn a_job_keeps_its_series_for_its_time_and_then_moves_to_the_others_once() {
    let store = Kept::default();
    let mut books = holders(&store, 10);
    let living = [place(1, Some("/ffrtmp/a"), 5, None)];
    books.note(&snapshot(SECOND, &living));
    assert_eq!(books.over(&snapshot(SECOND, &living)), []);
    let dead = [place(1, Some("/ffrtmp/a"), 7, Some(2 * SECOND))];
    books.note(&snapshot(3 * SECOND, &dead));
    assert_eq!(books.over(&snapshot(3 * SECOND, &dead)), []);
    let over = snapshot(20 * SECOND, &dead);
    books.note(&over);
    assert_eq!(books.over(&over), [(1, dead[0].totals.key)]);
    books.take(&dead[0]);
    for _ in 0..2 {
        let late = snapshot(50 * SECOND, &[]);
        books.note(&late);
        books.expire(&late);
        let sums = books.sums(&late);
        assert_eq!((jobs(&sums), all(&sums), sums.jobs["a"].has_ended), (vec![("a", 7)], 7, true));
    }
    for _ in 0..2 {
        let late = snapshot(70 * SECOND, &[]);
        books.note(&late);
        books.expire(&late);
        let sums = books.sums(&late);
        assert_eq!((jobs(&sums), sums.other_jobs), (vec![], [7, 14]));
    }
    // The three that are always there, as far as they were written.
    assert_eq!(store.0.borrow().keys().copied().collect::<Vec<_>>(), [OTHER_JOBS]);
}

#[test]
fn bytes_that_come_late_are_the_jobs() {
    let mut books = holders(&Kept::default(), 10);
    let dead = place(1, Some("/ffrtmp/a"), 7, Some(SECOND));
    books.note(&snapshot(20 * SECOND, std::slice::from_ref(&dead)));
    books.take(&dead);
    let again = place(2, Some("/ffrtmp/a"), 3, Some(SECOND));
    let late = snapshot(30 * SECOND, &[again]);
    books.note(&late);
    assert_eq!(jobs(&books.sums(&late)), [("a", 10)]);
}

/// Writes that happened before a kill, for every possible number of them: the books that are opened then, handed what was
/// not given back, say the same.
#[test]
fn a_kill_between_two_writes_neither_loses_nor_repeats() {
    #[derive(Debug, Clone, Default)]
    struct Killed {
        kept: Kept,
        left: Rc<RefCell<usize>>,
    }
    impl Killed {
        fn lives(&self) -> bool {
            let mut left = self.left.borrow_mut();
            let lives = *left > 0;
            *left = left.saturating_sub(1);
            lives
        }
    }
    impl HolderStore for Killed {
        fn save(&mut self, id: u32, record: &[u8; HOLDER]) -> Result<(), StoreError> {
            if self.lives() { self.kept.save(id, record) } else { Ok(()) }
        }

        fn remove(&mut self, id: u32) -> Result<(), StoreError> {
            if self.lives() { self.kept.remove(id) } else { Ok(()) }
        }

        fn most(&self) -> usize {
            100
        }

        fn all(&self) -> Vec<(u32, [u8; HOLDER])> {
            self.kept.all()
        }
    }
    let bounds = HolderBounds { jobs: 10, containers: 10, keep: Duration::from_mins(1) };
    let dead = [
        place(1, Some("/x.service/ffrtmp/a"), 5, Some(SECOND)),
        place(2, Some("/x.service/ffrtmp/a"), 7, Some(SECOND)),
        place(3, Some("/x.service/ffrtmp/b"), 11, Some(SECOND)),
    ];
    for writes in 0..20 {
        let store = Killed { kept: Kept::default(), left: Rc::new(RefCell::new(100)) };
        let mut books = Holders::open(store.clone(), Rules::default(), bounds);
        books.note(&snapshot(20 * SECOND, &dead));
        *store.left.borrow_mut() = writes;
        let mut held = dead.to_vec();
        for place in &dead {
            books.take(place);
            // Given back only by those who live.
            if *store.left.borrow() > 0 {
                held.retain(|held| held.slot != place.slot);
            }
        }
        let late = snapshot(200 * SECOND, &[]);
        books.expire(&late);
        drop(books);
        let mut books = Holders::open(store.kept.clone(), Rules::default(), bounds);
        for place in books.in_order(&held).into_iter().cloned().collect::<Vec<_>>() {
            books.take(&place);
        }
        let sums = books.sums(&late);
        assert_eq!(all(&sums), 23, "jobs after {writes} writes");
        let units = sums.containers.values().map(|sum| sum.bytes[0]).sum::<u64>() + sums.other_containers[0];
        assert_eq!(units, 23, "containers after {writes} writes");
        books.note(&late);
        books.expire(&late);
        assert_eq!(all(&books.sums(&late)), 23, "later, after {writes} writes");
    }
}

#[test]
fn rules_that_change_leave_what_is_booked() {
    let mut books = holders(&Kept::default(), 10);
    let before = snapshot(SECOND, &[place(1, Some("/mine/a"), 5, None)]);
    books.note(&before);
    let rules = Rules::new(&[Rule::Cgroup("/mine/(?<job>.+)".to_owned())]).unwrap();
    books.configure(rules, books.bounds);
    let after = snapshot(SECOND, &[place(1, Some("/mine/a"), 5, None), place(2, Some("/mine/b"), 7, None)]);
    books.note(&after);
    let sums = books.sums(&after);
    assert_eq!((jobs(&sums), sums.no_job[0]), (vec![("b", 7)], 5));
}

/// Processes that end.
#[derive(Debug, Clone, Default)]
struct Living(Arc<Mutex<Known>>);

/// Processes by the number of their cgroup, and which of those were asked for.
type Known = (BTreeMap<u64, Vec<Process>>, Vec<u64>);

impl Living {
    fn with(ids: &[(u64, &str)]) -> Self {
        let process = |id: &str| Process { environment: format!("JOB_ID={id}\0").into_bytes(), ..Process::default() };
        let all = ids.iter().map(|(cgroup, id)| (*cgroup, vec![process(id)])).collect();
        Self(Arc::new(Mutex::new((all, Vec::new()))))
    }

    /// All of them begin just now, beside one that says nothing.
    fn fresh(&self) {
        for all in self.0.lock().unwrap().0.values_mut() {
            for one in all.iter_mut() {
                one.is_fresh = true;
            }
            all.insert(0, Process::default());
        }
    }

    /// They are not so young any more.
    fn age(&self) {
        for one in self.0.lock().unwrap().0.values_mut().flatten() {
            one.is_fresh = false;
        }
    }

    fn end(&self) {
        self.0.lock().unwrap().0.clear();
    }

    fn asked(&self) -> Vec<u64> {
        self.0.lock().unwrap().1.clone()
    }
}

impl Residents for Living {
    fn of(&mut self, place: PlaceKey, _: &Standing, looks: Looks) -> Box<dyn Iterator<Item = Process> + '_> {
        assert_eq!(looks, Looks { environment: true, command_line: false });
        let mut living = self.0.lock().unwrap();
        living.1.push(place.cgroups[0]);
        Box::new(living.0.get(&place.cgroups[0]).cloned().unwrap_or_default().into_iter())
    }
}

fn by_environment(store: &Kept, living: &Living) -> Holders<Kept> {
    let rules =
        [Rule::Cgroup("^/told/(?<job>.+)$".to_owned()), Rule::Environment { name: "JOB_ID".to_owned(), pattern: None }];
    let mut books = holders(store, 10);
    books.configure(Rules::new(&rules).unwrap(), books.bounds);
    books.ask(Box::new(living.clone()));
    books
}

#[test]
fn what_a_process_told_of_its_place_holds_when_it_has_ended_and_over_a_restart() {
    let store = Kept::default();
    let living = Living::with(&[(101, "a"), (102, "b"), (104, "never")]);
    let mut books = by_environment(&store, &living);
    let paths = [("/x", 1), ("/y", 10), ("/z", 100), ("/told/c", 1_000), ("/ffrtmp/d", 10_000)];
    let places: Vec<_> = (1..).zip(paths).map(|(slot, (path, bytes))| place(slot, Some(path), bytes, None)).collect();
    let now = snapshot(SECOND, &places);
    let expected = vec![("a", 1), ("b", 10), ("c", 1_000), ("d", 10_000)];
    books.note(&now);
    assert_eq!((jobs(&books.sums(&now)), books.sums(&now).no_job[0]), (expected.clone(), 100));
    // Each once, and not the one whose path tells.
    books.note(&now);
    assert_eq!(living.asked(), [101, 102, 103, 105]);
    living.end();
    assert_eq!(jobs(&books.sums(&now)), expected);
    // Another process in the place of none is too late.
    let late = Living::with(&[(101, "other"), (103, "late")]);
    let mut books = by_environment(&store, &late);
    books.note(&now);
    assert_eq!((jobs(&books.sums(&now)), books.sums(&now).no_job[0]), (expected.clone(), 100));
    assert_eq!(late.asked(), [0_u64; 0]);
    // Without the rules too: bytes that are somebody's stay his.
    let mut books = holders(&store, 10);
    books.note(&now);
    assert_eq!(
        (jobs(&books.sums(&now)), books.sums(&now).no_job[0]),
        (vec![("a", 1), ("b", 10), ("c", 0), ("d", 10_000)], 1_100)
    );
}

/// A worker's child on its way to a cgroup of its own, and a job's program that its script began just now.
#[test]
fn a_process_that_began_just_now_is_waited_for_until_a_page_is_made() {
    let living = Living::with(&[(101, "passes"), (102, "stays"), (103, "shown")]);
    living.fresh();
    let mut books = by_environment(&Kept::default(), &living);
    let places: Vec<_> = (1..).zip([1, 10, 100]).map(|(slot, bytes)| place(slot, Some("/x"), bytes, None)).collect();
    let (one, two) = (snapshot(SECOND, &places[..2]), snapshot(2 * SECOND, &places));
    books.look(&one);
    assert_eq!((living.asked(), all(&books.sums(&one))), (vec![101, 102], 0));
    living.0.lock().unwrap().0.get_mut(&101).unwrap().truncate(1);
    living.age();
    books.look(&one);
    assert_eq!((jobs(&books.sums(&one)), books.sums(&one).no_job[0]), (vec![("stays", 10)], 1));
    // A page has every byte.
    living.fresh();
    books.note(&two);
    assert_eq!((jobs(&books.sums(&two)), books.sums(&two).no_job[0]), (vec![("stays", 10)], 101));
    living.age();
    books.note(&two);
    assert_eq!((jobs(&books.sums(&two)), books.sums(&two).no_job[0]), (vec![("stays", 10)], 101));
}

#[test]
fn a_decision_outlives_its_slot_for_what_comes_late_and_then_goes() {
    let store = Kept::default();
    let living = Living::with(&[(101, "a")]);
    let mut books = by_environment(&store, &living);
    let dead = place(1, Some("/x"), 7, Some(2 * SECOND));
    books.note(&snapshot(2 * SECOND, std::slice::from_ref(&dead)));
    books.take(&dead);
    books.expire(&snapshot(20 * SECOND, &[]));
    living.end();
    let mut books = by_environment(&store, &living);
    // It comes back in another slot.
    let mut again = place(1, Some("/x"), 3, Some(2 * SECOND));
    again.slot = 9;
    let late = snapshot(30 * SECOND, std::slice::from_ref(&again));
    books.note(&late);
    books.expire(&late);
    assert_eq!(jobs(&books.sums(&late)), [("a", 10)]);
    books.take(&again);
    let kept = || store.0.borrow().keys().filter(|id| **id >= decisions::FIRST).count();
    for (now, wanted) in [(40 * SECOND, 1), (149 * SECOND, 1), (151 * SECOND, 0)] {
        let later = snapshot(now, &[]);
        books.note(&later);
        books.expire(&later);
        assert_eq!(kept(), wanted, "at {now}");
    }
    assert_eq!(books.refused(), 0);
}

#[test]
fn decisions_leave_half_of_the_room_to_holders() {
    let store = Kept::default();
    let living = Living::default();
    let mut books = by_environment(&store, &living);
    let places: Vec<_> = (1..=80).map(|slot| place(slot, Some("/x"), 1, None)).collect();
    let now = snapshot(SECOND, &places);
    books.note(&now);
    assert_eq!(store.0.borrow().len(), 50);
    assert_eq!(books.sums(&now).no_job[0], 80);
    assert_eq!(books.refused(), 0);
}
