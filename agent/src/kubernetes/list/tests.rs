//! Pages of pods as Kubernetes writes them, and as somebody would who wants to break the reader.
#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;

fn pod(uid: &str, name: &str, job: Option<&str>) -> (String, PodName) {
    let (namespace, job) = ("batch".to_owned(), job.map(str::to_owned));
    (uid.to_owned(), PodName { namespace, name: name.to_owned(), came: None, is_listed: true, job })
}

fn read(text: &str) -> Page {
    page(text.as_bytes()).unwrap()
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
    assert_eq!(read(text), Page { pods: vec![pod("8dbc", "encode-x2x9z", Some("encode"))], next, wrong: 0, beyond: 0 });
}

#[test]
fn an_empty_list_is_one_and_so_is_that_of_the_kubelet() {
    for text in [r#"{"items":null}"#, r#"{"items":[],"metadata":{}}"#, r#"{"metadata":{"continue":""},"items":[]}"#] {
        assert_eq!(read(text), Page { pods: Vec::new(), next: None, wrong: 0, beyond: 0 }, "{text}");
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
        assert_eq!(items(first), Page { pods: vec![one.clone()], next: None, wrong: 1, beyond: 0 }, "{first}");
    }
}

#[test]
fn what_is_no_list_or_half_of_one_is_refused() {
    let good = r#"{"metadata":{"continue":"c"},"items":[{"metadata":{"uid":"1","name":"a","namespace":"batch"}}]}"#;
    assert_eq!(read(good).pods.len(), 1);
    for end in 0..good.len() {
        assert!(page(&good.as_bytes()[..end]).is_err(), "{}", &good[..end]);
    }
    for text in ["7", "null", "[]", "{}", r#"{"items":7}"#, r#"{"items":{}}"#, r#"{"items":[]}x"#] {
        assert!(page(text.as_bytes()).is_err(), "{text}");
    }
    // Without its end nobody knows how much is missing.
    for metadata in ["7", "[]", r#"{"continue":7}"#] {
        let text = format!(r#"{{"items":[],"metadata":{metadata}}}"#);
        assert!(page(text.as_bytes()).is_err(), "{text}");
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
    let used = allocation_counter::measure(|| found = Some(page(text.as_bytes()).unwrap()));
    assert_eq!(found.unwrap(), Page { pods: Vec::new(), next: None, wrong: 20, beyond: 0 });
    assert!(used.bytes_max < 200_000, "{} bytes were in use at once", used.bytes_max);
}

/// A page of these bytes with a good pod behind it.
fn before_another(item: &[u8]) -> Vec<(String, PodName)> {
    let mut text = b"{\"items\":[".to_vec();
    text.extend_from_slice(item);
    text.extend_from_slice(b",{\"metadata\":{\"uid\":\"2\",\"name\":\"b\",\"namespace\":\"batch\"}}]}");
    page(text.as_slice()).unwrap().pods
}

#[test]
fn text_that_is_none_costs_its_pod_only() {
    let long = "\u{e4}".repeat(5_000);
    let name =
        |bytes: &[u8]| [b"{\"metadata\":{\"uid\":\"1\",\"namespace\":\"batch\",\"name\":", bytes, b"}}"].concat();
    for bytes in [
        b"\"a\xff\"".as_slice(),
        b"\"a\xe2\x82\"",
        br#""\ud800""#,
        br#""\udc00\ud800""#,
        br#""a\ud83dz""#,
        b"1e999",
        b"-1E+999999999999999999999",
        format!("\"{long}\"").as_bytes(),
        format!("\"x{long}\"").as_bytes(),
        format!("{{\"x{long}\":1}}").as_bytes(),
        format!("{{\"{long}\":1}}").as_bytes(),
        "9".repeat(2_000).as_bytes(),
    ] {
        let found = before_another(&name(bytes));
        assert_eq!(found, [pod("2", "b", None)], "{}", String::from_utf8_lossy(bytes.get(..40).unwrap_or(bytes)));
    }
    // A key of it is as good as any other that nobody asked for.
    for key in [b"\"\xff\"".as_slice(), br#""\udead""#, format!("\"x{long}\"").as_bytes()] {
        let item = [b"{", key, b":1,\"metadata\":{\"uid\":\"1\",\"name\":\"a\",", key, b":2,\"namespace\":\"batch\"}}"]
            .concat();
        assert_eq!(before_another(&item), [pod("1", "a", None), pod("2", "b", None)]);
    }
}

#[test]
fn a_name_that_kubernetes_gives_nobody_is_none() {
    let named = |uid: &str, name: &str, namespace: &str| {
        format!("{{\"metadata\":{{\"uid\":\"{uid}\",\"name\":\"{name}\",\"namespace\":\"{namespace}\"}}}}")
    };
    let long = "x".repeat(253);
    assert_eq!(before_another(named("1", &long, "batch").as_bytes()).len(), 2);
    for item in [
        named("1", &format!("{long}x"), "batch"),
        named("1", "a/b", "batch"),
        named("1", "a", "batch/b"),
        named("1", "a%2f", "batch"),
        named("1", "a", ".."),
        named("1", ".", "batch"),
        named("1", "a\\nb", "batch"),
        named("1", "a", "ba\\\"tch"),
        named("1", "a\\u0000", "batch"),
        named("1", "\u{e4}", "batch"),
        named(&format!("{long}x"), "a", "batch"),
    ] {
        assert_eq!(before_another(item.as_bytes()), [pod("2", "b", None)], "{item}");
    }
    for job in ["j/k", "j\\nk", &format!("{long}x")] {
        let owner = format!(r#"[{{"apiVersion":"batch/v1","kind":"Job","name":"{job}","controller":true}}]"#);
        assert_eq!(owned(&owner), None, "{job}");
    }
}

#[test]
fn memory_is_bounded_however_deep_and_however_many() {
    let levels = |what: &str| what.repeat(20_000_000 / what.len());
    for text in
        [levels("["), format!("{{\"items\":[{{\"spec\":{}", levels("{\"a\":")), format!("{{\"items\":{}", levels("["))]
    {
        let mut refused = None;
        let used = allocation_counter::measure(|| refused = page(text.as_bytes()).err());
        let wanted = "the answer is not the list that is wanted: more than 1000 levels deep";
        assert_eq!(refused.unwrap().to_string().split(" at line").next(), Some(wanted));
        assert!(used.bytes_max < 200_000, "{} bytes were in use at once", used.bytes_max);
    }
    let name = "x".repeat(253);
    let owner = format!(r#"{{"apiVersion":"batch/v1","kind":"Job","name":"{name}","controller":true}}"#);
    let item = format!(
        r#"{{"metadata":{{"uid":"{name}","name":"{name}","namespace":"{name}","ownerReferences":[{owner}]}}}},"#
    );
    let text = format!("{{\"items\":[{}7]}}", item.repeat(40_000));
    let mut found = None;
    let used = allocation_counter::measure(|| found = Some(page(text.as_bytes()).unwrap()));
    let found = found.unwrap();
    assert_eq!((found.pods.len(), found.wrong, found.beyond), (10_000, 1, 30_000));
    assert!(used.bytes_max < 16_000_000, "{} bytes were in use at once", used.bytes_max);
}
