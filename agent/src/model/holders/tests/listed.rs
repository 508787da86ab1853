//! Places of pods, by their names and by lists that come late or not at all.
use super::*;
use crate::snapshot::PodName;

#[test]
fn a_pod_of_a_cron_job_is_that_jobs_if_it_came_when_the_job_ran() {
    let mut books = holders(&Kept::default(), 10);
    let uid = |number: u64| format!("8dbc6c2e-5a1f-4a53-9d8e-{number:012}");
    let pod = |number: u64, came: u64| {
        let name = "backup-29921400-x2x9z".to_owned();
        let namespace = "night".to_owned();
        (uid(number), PodName { namespace, name, came: Some(came), is_listed: false, job: None })
    };
    let ran = 29_921_400 * 60;
    books.name_pods([pod(1, ran + 90), pod(2, ran - 86_400)].into());
    let path = |number: u64| format!("/kubepods/burstable/pod{}", uid(number));
    let now = snapshot(SECOND, &[place(1, Some(&path(1)), 3, None), place(2, Some(&path(2)), 5, None)]);
    books.note(&now);
    let sums = books.sums(&now);
    assert_eq!((jobs(&sums), sums.no_job[0]), (vec![("night/backup-29921400", 3)], 5));
}

fn uid(number: u64) -> String {
    format!("8dbc6c2e-5a1f-4a53-9d8e-{number:012}")
}

fn path(number: u64) -> String {
    format!("/kubepods/burstable/pod{}", uid(number))
}

/// A list with pods of a Job each, or of something else.
fn list(pods: &[(u64, Option<&str>)]) -> Pods {
    let one = |(number, job): &(u64, Option<&str>)| {
        let (namespace, name) = ("batch".to_owned(), format!("pod-{number}"));
        (uid(*number), PodName { namespace, name, came: None, is_listed: true, job: job.map(str::to_owned) })
    };
    pods.iter().map(one).collect()
}

fn asking(store: &Kept) -> Holders<Kept> {
    let mut books = holders(store, 10);
    books.ask_for_pods(true);
    books
}

/// Bytes by job, those of none, and those that wait.
fn found(books: &Holders<Kept>, now: &Snapshot) -> (Vec<(String, u64)>, u64, u64) {
    let sums = books.sums(now);
    let jobs = jobs(&sums).into_iter().map(|(job, bytes)| (job.to_owned(), bytes)).collect();
    assert_eq!(books.waiting(now)[1], 2 * books.waiting(now)[0]);
    (jobs, sums.no_job[0], books.waiting(now)[0])
}

fn of(job: &str, bytes: u64) -> Vec<(String, u64)> {
    vec![(job.to_owned(), bytes)]
}

#[test]
fn a_place_waits_for_a_list_that_was_asked_for_when_it_was_there() {
    let mut books = asking(&Kept::default());
    let places = [place(1, Some(&path(1)), 3, None), place(2, Some("/x.service"), 5, None)];
    let now = snapshot(SECOND, &places);
    for _ in 0..2 {
        books.note(&now);
        books.look(&now);
        assert_eq!((books.asked(), found(&books, &now)), (1, (vec![], 5, 3)));
    }
    // Asked for before the place came, without its pod.
    books.list_pods(Pods::new(), 0);
    books.note(&now);
    assert_eq!(found(&books, &now), (vec![], 5, 3));
    books.list_pods(list(&[(1, Some("encode"))]), 1);
    books.note(&now);
    assert_eq!(found(&books, &now), (of("batch/encode", 3), 5, 0));
    let names: Vec<_> = books.sums(&now).containers.into_keys().map(|one| (one.namespace, one.pod)).collect();
    assert_eq!(names, [(String::new(), String::new()), ("batch".to_owned(), "pod-1".to_owned())]);
    // Its other containers need not wait, and keep their job when the pod is off the list.
    let later = snapshot(2 * SECOND, &[place(1, Some(&path(1)), 4, None), place(3, Some(&path(1)), 10, None)]);
    books.note(&later);
    books.list_pods(Pods::new(), 1);
    books.note(&later);
    assert_eq!(found(&books, &later), (of("batch/encode", 14), 0, 0));
}

#[test]
fn one_that_is_on_no_list_is_no_jobs_and_stays_so() {
    let store = Kept::default();
    let mut books = asking(&store);
    let one = |number, bytes| place(number, Some(&path(1)), bytes, None);
    let now = snapshot(SECOND, &[one(1, 3)]);
    books.note(&now);
    books.list_pods(list(&[(2, Some("other"))]), 1);
    books.note(&now);
    assert_eq!(found(&books, &now), (vec![], 3, 0));
    books.list_pods(list(&[(1, Some("late"))]), 1);
    books.note(&now);
    assert_eq!(found(&books, &now), (vec![], 3, 0));
    // For the next agent too, whose list has it, and by the same name.
    let before = books.sums(&now).containers;
    let mut books = asking(&store);
    books.list_pods(list(&[(1, Some("late"))]), 0);
    let later = snapshot(2 * SECOND, &[one(1, 4), one(2, 10)]);
    books.note(&later);
    assert_eq!(found(&books, &later), (of("batch/late", 10), 4, 0));
    assert!(before.into_keys().all(|one| books.sums(&later).containers.contains_key(&one)));
}

#[test]
fn without_an_answer_a_place_waits_for_a_time_and_its_slot_with_it() {
    let mut books = asking(&Kept::default());
    let one = [place(1, Some(&path(1)), 3, Some(2 * SECOND))];
    for (now, waiting, over) in [(SECOND, 3, 0), (16 * SECOND, 3, 0), (16 * SECOND + 1, 0, 1)] {
        let now = snapshot(now, &one);
        books.note(&now);
        assert_eq!(found(&books, &now), (vec![], 3 - waiting, waiting));
        assert_eq!(books.over(&now).len(), over);
    }
    // Nobody waits for what has to be decided, nor without somebody to ask.
    let mut books = asking(&Kept::default());
    let now = snapshot(SECOND, &[place(1, Some(&path(1)), 3, None), place(2, Some(&path(2)), 5, None)]);
    books.note(&now);
    books.take(&now.places[0]);
    let left = snapshot(SECOND, &now.places[1..]);
    assert_eq!(found(&books, &left), (vec![], 3, 5));
    books.ask_for_pods(false);
    books.note(&left);
    assert_eq!(found(&books, &left), (vec![], 8, 0));
    let mut books = asking(&Kept::default());
    books.note(&now);
    books.give_up(1);
    books.note(&now);
    assert_eq!(found(&books, &now), (vec![], 3, 5));
}

#[test]
fn a_job_that_a_list_told_is_the_next_agents_too_who_has_no_list() {
    let store = Kept::default();
    let mut books = asking(&store);
    books.list_pods(list(&[(1, Some("encode")), (2, None)]), 0);
    let now = snapshot(SECOND, &[place(1, Some(&path(1)), 3, None), place(2, Some(&path(2)), 5, None)]);
    books.note(&now);
    assert_eq!(found(&books, &now), (of("batch/encode", 3), 5, 0));
    let sums = books.sums(&now);
    for is_asked in [true, false] {
        let mut books = holders(&store, 10);
        books.ask_for_pods(is_asked);
        books.note(&now);
        assert_eq!(books.sums(&now), sums);
    }
}

#[test]
fn what_a_process_told_while_its_place_waited_holds() {
    let living = Living::with(&[(101, "told")]);
    let mut books = by_environment(&Kept::default(), &living);
    books.ask_for_pods(true);
    let now = snapshot(SECOND, &[place(1, Some(&path(1)), 3, None)]);
    books.look(&now);
    living.end();
    books.list_pods(list(&[(1, Some("encode"))]), 1);
    books.note(&now);
    assert_eq!((found(&books, &now), living.asked()), ((of("told", 3), 0, 0), vec![101]));
    let pods: Vec<_> = books.sums(&now).containers.into_keys().map(|one| one.pod).collect();
    assert_eq!(pods, ["pod-1"]);
}

#[test]
fn the_logs_and_the_list_call_a_cron_jobs_pod_the_same() {
    let (name, ran) = ("backup-29921400-x2x9z".to_owned(), 29_921_400 * 60);
    let pod = |is_listed: bool, came: Option<u64>| {
        let job = is_listed.then(|| "backup-29921400".to_owned());
        Pods::from([(uid(1), PodName { namespace: "night".to_owned(), name: name.clone(), came, is_listed, job })])
    };
    let now = snapshot(SECOND, &[place(1, Some(&path(1)), 3, None)]);
    let sums = [(true, false), (false, true), (true, true)].map(|(logs, lists)| {
        let mut books = holders(&Kept::default(), 10);
        books.ask_for_pods(lists);
        if logs {
            books.name_pods(pod(false, Some(ran)));
        }
        if lists {
            books.list_pods(pod(true, None), 0);
        }
        books.note(&now);
        books.sums(&now)
    });
    assert_eq!(jobs(&sums[0]), [("night/backup-29921400", 3)]);
    assert!(sums.iter().all(|one| *one == sums[0]), "{sums:?}");
}

#[test]
fn a_list_of_one_who_is_not_asked_any_more_has_no_say() {
    let mut books = asking(&Kept::default());
    books.list_pods(list(&[(1, Some("encode"))]), 0);
    let (one, two) = (place(1, Some(&path(1)), 3, None), place(2, Some(&path(1)), 5, None));
    let now = snapshot(SECOND, std::slice::from_ref(&one));
    books.note(&now);
    books.ask_for_pods(false);
    let now = snapshot(SECOND, &[one, two]);
    books.note(&now);
    assert_eq!(found(&books, &now), (of("batch/encode", 3), 5, 0));
}
