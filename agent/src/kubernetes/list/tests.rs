//! Pages of pods as Kubernetes writes them, and as somebody would who wants to break the reader.
#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;

fn pod(uid: &str, name: &str, job: Option<&str>) -> (String, PodName) {
    let (namespace, job) = ("batch".to_owned(), job.map(str::to_owned));
    (uid.to_owned(), PodName { namespace, name: name.to_owned(), came: None, is_listed: true, job })
}

fn read(text: &str) -> Page {
    page(text.as_bytes(), 100).unwrap()
}

/// A page with one pod whose metadata has this beside uid, name and namespace.
fn with(more: &str) -> Vec<(String, PodName)> {
    let metadata = format!("{{\"name\":\"a\",\"namespace\":\"batch\",\"uid\":\"1\"{more}}}");
    let other = "{\"metadata\":{\"uid\":\"2\",\"name\":\"b\",\"namespace\":\"batch\"}}";
    read(&format!("{{\"items\":[{{\"metadata\":{metadata}}},{other}]}}")).pods
}

fn owned(owner: &str) -> Option<PodName> {
    let found = with(&format!(",\"ownerReferences\":{owner}"));
    assert_eq!(found.last(), Some(&pod("2", "b", None)), "{owner}");
    found.into_iter().find(|(uid, _)| uid == "1").map(|(_, pod)| pod)
}

#[test]
fn a_pod_has_its_names_and_the_job_that_controls_it() {
    let text = r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7","continue":"a b+/=","remainingItemCount":3},
        "items":[{"metadata":{"name":"encode-x2x9z","generateName":"encode-","namespace":"batch","uid":"8dbc",
        "labels":{"uid":"not this","job-name":"nor this"},"creationTimestamp":"2026-11-21T18:00:00Z",
        "ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"n","uid":"9"},
        {"apiVersion":"batch/v1","kind":"Job","name":"encode","uid":"77","controller":true,"blockOwnerDeletion":true}],
        "managedFields":[{"manager":"kubelet","fieldsV1":{"f:metadata":{".":{}}}}]},
        "spec":{"containers":[{"name":"encode","image":"x","env":[{"name":"uid","value":"no"}]}]},
        "status":{"phase":"Running","metadata":{"uid":"nor that"}}}]}
"#;
    let next = Some("a b+/=".to_owned());
    assert_eq!(read(text), Page { pods: vec![pod("8dbc", "encode-x2x9z", Some("encode"))], next });
}

#[test]
fn an_empty_list_is_one_and_so_is_that_of_the_kubelet() {
    for text in [r#"{"items":null}"#, r#"{"items":[],"metadata":{}}"#, r#"{"metadata":{"continue":""},"items":[]}"#] {
        assert_eq!(read(text), Page { pods: Vec::new(), next: None }, "{text}");
    }
}

#[test]
fn only_a_job_that_controls_a_pod_is_its_job() {
    let one = |owner: &str| owned(&format!("[{owner}]")).map(|pod| pod.job);
    let job = r#"{"apiVersion":"batch/v1","kind":"Job","name":"j","controller":true}"#;
    assert_eq!(one(job), Some(Some("j".to_owned())));
    assert_eq!(one(&job.replace("v1", "v2")), Some(Some("j".to_owned())));
    for other in [
        job.replace("batch/v1", "apps/v1"),
        job.replace("batch/v1", "batch.volcano.sh/v1alpha1"),
        job.replace("batch/v1", "v1"),
        job.replace("Job", "CronJob"),
        job.replace("true", "false"),
        job.replace(",\"controller\":true", ""),
        job.replace("\"j\"", "\"\""),
        job.replace("\"name\":\"j\",", ""),
        "{}".to_owned(),
        "null".to_owned(),
    ] {
        assert_eq!(one(&other), Some(None), "{other}");
    }
    assert_eq!(owned("[]").map(|pod| pod.job), Some(None));
    assert_eq!(owned("null").map(|pod| pod.job), Some(None));
}

#[test]
fn a_pod_of_wrong_types_is_dropped_and_no_other() {
    for owners in
        ["7", "\"x\"", "{}", "[7]", "[[]]", "[{\"kind\":7}]", "[{\"controller\":\"true\"}]", "[{\"name\":{}}]"]
    {
        assert_eq!(owned(owners), None, "{owners}");
    }
    let one = pod("2", "b", None);
    let items = |first: &str| {
        read(&format!(
            "{{\"items\":[{first},{{\"metadata\":{{\"uid\":\"2\",\"name\":\"b\",\"namespace\":\"batch\"}}}}]}}"
        ))
    };
    for first in [
        "7",
        "null",
        "\"x\"",
        "[]",
        "{}",
        r#"{"metadata":null}"#,
        r#"{"metadata":[1,{"a":2}]}"#,
        r#"{"metadata":{}}"#,
        r#"{"metadata":{"uid":"1","name":"a"}}"#,
        r#"{"metadata":{"uid":"1","name":"a","namespace":""}}"#,
        r#"{"metadata":{"uid":1,"name":"a","namespace":"batch"}}"#,
        r#"{"metadata":{"uid":"1","name":1.5,"namespace":"batch"}}"#,
        r#"{"metadata":{"uid":"1","name":-1,"namespace":"batch"}}"#,
        r#"{"metadata":{"uid":"1","name":"a","namespace":true}}"#,
    ] {
        assert_eq!(items(first), Page { pods: vec![one.clone()], next: None }, "{first}");
    }
}

#[test]
fn what_is_no_list_or_half_of_one_is_refused() {
    let good = r#"{"metadata":{"continue":"c"},"items":[{"metadata":{"uid":"1","name":"a","namespace":"batch"}}]}"#;
    assert_eq!(read(good).pods.len(), 1);
    for end in 0..good.len() {
        assert!(page(&good.as_bytes()[..end], 100).is_err(), "{}", &good[..end]);
    }
    for text in ["7", "null", "[]", "{}", r#"{"items":7}"#, r#"{"items":{}}"#, r#"{"items":[]}x"#] {
        assert!(page(text.as_bytes(), 100).is_err(), "{text}");
    }
    // Without its end nobody knows how much is missing.
    for metadata in ["7", "[]", r#"{"continue":7}"#] {
        let text = format!(r#"{{"items":[],"metadata":{metadata}}}"#);
        assert!(page(text.as_bytes(), 100).is_err(), "{text}");
    }
}

#[test]
fn memory_is_bounded_whatever_a_pod_says() {
    let long = "x".repeat(200_000);
    let item = format!(
        r#"{{"metadata":{{"uid":"{long}","name":"{long}","namespace":"n","annotations":{{"{long}":"{long}"}}}},"status":"{long}"}}"#
    );
    let text = format!("{{\"items\":[{}]}}", vec![item.as_str(); 20].join(","));
    let mut found = None;
    let used = allocation_counter::measure(|| found = Some(page(text.as_bytes(), 3).unwrap()));
    let found = found.unwrap();
    assert_eq!((found.pods.len(), found.pods[0].0.len()), (3, 4_096));
    assert!(used.bytes_max < 400_000, "{} bytes were in use at once", used.bytes_max);
}
