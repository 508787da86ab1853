//! What the manifests in `deploy/kubernetes` say of each other, where no schema looks: selectors find pods, ports have their
//! names. Schemas are `cargo xtask manifests`', what a pod does is a kernel test's.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sockmeter::config::Configuration;

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes").join(path)
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(file(path)).unwrap()).unwrap()
}

/// Labels and port names of a workload's pod.
fn pod(workload: &Value) -> (Value, Vec<Value>) {
    let template = &workload["spec"]["template"];
    let containers = template["spec"]["containers"].as_array().unwrap();
    let ports = containers.iter().flat_map(|container| container["ports"].as_array().unwrap());
    (template["metadata"]["labels"].clone(), ports.map(|port| port["name"].clone()).collect())
}

#[test]
fn pod_monitors_find_the_pods_their_port_and_their_token() {
    for (overlay, workload) in [
        ("overlays/sidecar-podmonitor", "sidecar/deployment.yaml"),
        ("overlays/daemonset-podmonitor", "daemonset/daemonset.yaml"),
    ] {
        let monitor = yaml(&format!("{overlay}/pod-monitor.yaml"));
        let workload = yaml(workload);
        let (labels, ports) = pod(&workload);
        assert_eq!(monitor["spec"]["selector"]["matchLabels"], labels);
        assert_eq!(workload["spec"]["selector"]["matchLabels"], labels);
        let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
        assert!(ports.contains(&endpoint["port"]), "{endpoint}");
        let volumes = workload["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
        let secret = volumes.iter().find(|volume| volume["name"] == "token").unwrap();
        assert_eq!(endpoint["authorization"]["credentials"]["name"], secret["secret"]["secretName"]);
        // The name by which the rules ask for an agent.
        assert_eq!(endpoint["relabelings"], json!([{"targetLabel": "job", "replacement": "sockmeter"}]));
        let rules = fs::read_to_string(file("../prometheus/rules/alerts.yaml")).unwrap();
        assert_eq!(rules.matches(r#"up{job="sockmeter"}"#).count(), 1);
    }
}

#[test]
fn the_network_policy_is_about_the_pod_and_its_ports() {
    let policy = yaml("sidecar/network-policy.yaml");
    let (labels, ports) = pod(&yaml("sidecar/deployment.yaml"));
    assert_eq!(policy["spec"]["podSelector"]["matchLabels"], labels);
    let rules = policy["spec"]["ingress"].as_array().unwrap();
    let named: Vec<Value> = rules.iter().map(|rule| rule["ports"][0]["port"].clone()).collect();
    assert_eq!(named, ports);
    // The exporter's rule, and no other, says who may.
    let from: Vec<bool> = rules.iter().map(|rule| rule.get("from").is_some()).collect();
    assert_eq!(from, [false, true]);
}

#[test]
fn the_overlay_of_jobs_asks_for_the_nodes_pods_as_its_service_account_may() {
    let patch = yaml("overlays/daemonset-jobs/list-pods.yaml");
    let container = &patch["spec"]["template"]["spec"]["containers"][0];
    let variables: Vec<&Value> = container["env"].as_array().unwrap().iter().collect();
    let names: Vec<&str> = variables.iter().map(|one| one["name"].as_str().unwrap()).collect();
    let keys = ["PODS", "NODE", "TOKEN_FILE", "CA"].map(|key| format!("SOCKMETER_KUBERNETES_{key}"));
    assert_eq!(names, keys);
    assert_eq!(variables[1]["valueFrom"]["fieldRef"]["fieldPath"], "spec.nodeName");
    // Where the kubelet puts them (`serviceaccount.DefaultAPITokenMountPath`).
    for (variable, file) in variables[2..].iter().zip(["token", "ca.crt"]) {
        assert_eq!(variable["value"], json!(format!("/var/run/secrets/kubernetes.io/serviceaccount/{file}")));
    }
    assert_eq!(patch["metadata"]["name"], yaml("daemonset/daemonset.yaml")["metadata"]["name"]);
    let documents = fs::read_to_string(file("overlays/daemonset-jobs/role.yaml")).unwrap();
    let (role, binding) = documents.split_once("---\n").unwrap();
    let [role, binding]: [Value; 2] = [role, binding].map(|text| serde_saphyr::from_str(text).unwrap());
    assert_eq!(role["rules"], json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]));
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    let account = yaml("daemonset/service-account.yaml");
    let namespace = yaml("daemonset/namespace.yaml");
    let (name, namespace) = (&account["metadata"]["name"], &namespace["metadata"]["name"]);
    assert_eq!(binding["subjects"], json!([{"kind": "ServiceAccount", "name": name, "namespace": namespace}]));
}

#[test]
fn annotations_name_the_port_and_the_configuration_needs_no_token() {
    let patch = yaml("overlays/sidecar-annotations/annotations.yaml");
    let annotations = &patch["spec"]["template"]["metadata"]["annotations"];
    let settings =
        Configuration::of_file(&file("overlays/sidecar-annotations/sockmeter.toml")).load().unwrap().settings;
    assert_eq!(annotations["prometheus.io/port"], json!(settings.listen.port().to_string()));
    assert_eq!((settings.access.insecure, settings.access.token_file), (true, None));
    let base = yaml("sidecar/deployment.yaml");
    let ports = base.pointer("/spec/template/spec/containers/1/ports").unwrap();
    assert_eq!(*ports, json!([{"name": "sockmeter", "containerPort": settings.listen.port()}]));
}
