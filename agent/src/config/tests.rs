//! The configuration as an operator meets it: precedence, refusals, and the example file.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::ffi::OsString;
use std::path::PathBuf;

use super::settings::{LogLevel, Scope};
use super::{
    ConfigError, Configuration, Effective, Input, JobRule, JobsInput, KernelInput, Layers, LimitsInput, NodeInput,
    ObserveInput, Origin, ServiceInput, Settings, WireguardInput, file, refuse_unavailable, resolve, show,
};

const EXAMPLE: &str = include_str!("../../../deploy/sockmeter.example.toml");

fn of_file(text: &str) -> Result<Effective, ConfigError> {
    let file = file::parse(text, "test.toml")?;
    resolve::resolve(Layers { file, file_name: Some(PathBuf::from("test.toml")), ..Layers::default() })
}

fn of_environment(variables: &[(&str, &str)]) -> Result<Effective, ConfigError> {
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Configuration::new(None, Input::default(), variables)?.load()
}

fn defaults() -> Settings {
    of_file("").unwrap().settings
}

fn refusal(text: &str) -> String {
    of_file(text).unwrap_err().to_string()
}

/// The example with some of its comment marks taken away.
fn uncommented(marks: &[&str]) -> String {
    let mut text = String::new();
    for line in EXAMPLE.lines() {
        let rest = marks.iter().find_map(|mark| {
            line.strip_prefix(mark)
                .filter(|rest| rest.starts_with(|first: char| first.is_ascii_lowercase() || matches!(first, '[' | '"')))
        });
        text.push_str(rest.unwrap_or(line));
        text.push('\n');
    }
    text
}

/// The keys of a structure, as serde names them when it meets one that it does not know.
fn keys_of<T: serde::de::DeserializeOwned>() -> Vec<String> {
    let Err(error) = toml::from_str::<T>("\"no such key\" = 1") else {
        return Vec::new();
    };
    let names = error.message().split('`').skip(1).step_by(2).skip(1);
    names.filter(|name| !name.contains('-')).map(ToOwned::to_owned).collect()
}

#[test]
fn the_example_as_it_stands_changes_nothing() {
    assert_eq!(of_file(EXAMPLE).unwrap().settings, defaults());
}

#[test]
fn the_example_with_every_default_uncommented_changes_nothing() {
    let effective = of_file(&uncommented(&["#"])).unwrap();
    assert_eq!(effective.settings, defaults());
    assert_eq!(effective.origins.get("kernel.cells"), Some(&Origin::File));
}

#[test]
fn the_example_has_every_key() {
    let table: toml::Table = uncommented(&["#~ ", "#"]).parse().unwrap();
    let keys = |path: &[&str]| -> Vec<String> {
        let table = path.iter().fold(&table, |table, name| table[*name].as_table().unwrap());
        table.keys().cloned().collect()
    };
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    assert_eq!(sorted(keys(&[])), sorted(keys_of::<Input>()));
    assert_eq!(sorted(keys(&["service", "scheduler"])), sorted(keys_of::<ServiceInput>()));
    assert_eq!(sorted(keys(&["limits"])), sorted(keys_of::<LimitsInput>()));
    assert_eq!(sorted(keys(&["observe"])), sorted(keys_of::<ObserveInput>()));
    assert_eq!(sorted(keys(&["jobs"])), sorted(keys_of::<JobsInput>()));
    assert_eq!(sorted(keys(&["node"])), sorted(keys_of::<NodeInput>()));
    assert_eq!(sorted(keys(&["wireguard"])), sorted(keys_of::<WireguardInput>()));
    assert_eq!(sorted(keys(&["kernel"])), sorted(keys_of::<KernelInput>()));
}

#[test]
fn pods_are_asked_for_at_a_url_for_a_node() {
    let refused = |text: &str, wanted: &str| {
        assert_eq!(refusal(text).lines().next(), Some(format!("test.toml: {wanted}").as_str()), "{text}");
    };
    refused("kubernetes_node = \"n\"", "kubernetes_node is given without kubernetes_pods, wanted both");
    refused("kubernetes_ca = \"c\"", "kubernetes_ca is given without kubernetes_pods, wanted both");
    refused(
        "kubernetes_pods = \"https://n:10250\"",
        "kubernetes_pods is an https URL without kubernetes_ca, wanted both",
    );
    refused(
        "kubernetes_pods = \"http://n:10255\"\nkubernetes_node = \"a&b\"",
        "kubernetes_node is \"a&b\", wanted the name of a node: 1 to 253 of lower-case letters, digits, - and .",
    );
    let variables = [("SOCKMETER_KUBERNETES_NODE", "worker-1.example"), ("SOCKMETER_KUBERNETES_PODS", "http://h:1/k")];
    let found = of_environment(&variables).unwrap();
    let pods = found.settings.kubernetes.clone().unwrap();
    assert_eq!((pods.api.url.to_string().as_str(), pods.node.as_deref()), ("http://h:1/k", Some("worker-1.example")));
    assert_eq!(of_file(&show(&found)).unwrap().settings, found.settings);
}

#[test]
fn what_config_show_prints_brings_about_the_same_settings() {
    let effective = of_file(
        "listen = \"[::1]:0\"\nno_pin = true\nscope = \"cgroup:/a b\"\nlog_level = \"debug\"\n\
         [service.api]\nports = [9000, 80]\nupstream = \"http://127.0.0.1:1/metrics\"\nsize_buckets = [1, 2]\n\
         [wireguard.peers]\n\"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\" = \"a \\\"b\\\"\"\n",
    )
    .unwrap();
    assert_eq!(of_file(&show(&effective)).unwrap().settings, effective.settings);
    assert_eq!(of_file(&show(&of_file("").unwrap())).unwrap().settings, defaults());
}

const RULES: &str = r#"
[jobs]
rules = [
  "^/my/(?P<job>[^/]+)$",
  { environment = "JOB_ID" },
  { environment = "TASK", pattern = "^render-(?P<job>.+)$" },
  { command_line = "--job[= ](?P<job>\\S+)" },
  { unit = '^worker@(?P<job>.+)\.service$' },
  { pod = "^batch/(?P<job>.+)-[a-z0-9]{5}$" },
]
[node]
id = "node \"7\""
"#;

#[test]
fn rules_of_jobs_are_texts_and_tables_in_their_order() {
    let effective = of_file(RULES).unwrap();
    let settings = &effective.settings;
    let (render, of_command) = ("^render-(?P<job>.+)$".to_owned(), r"--job[= ](?P<job>\S+)".to_owned());
    let rules = [
        JobRule::Cgroup("^/my/(?P<job>[^/]+)$".to_owned()),
        JobRule::Environment { name: "JOB_ID".to_owned(), pattern: None },
        JobRule::Environment { name: "TASK".to_owned(), pattern: Some(render) },
        JobRule::CommandLine(of_command),
        JobRule::Unit(r"^worker@(?P<job>.+)\.service$".to_owned()),
        JobRule::Pod("^batch/(?P<job>.+)-[a-z0-9]{5}$".to_owned()),
    ];
    assert_eq!(settings.jobs.rules, rules);
    assert_eq!(settings.node_id.as_deref(), Some("node \"7\""));
    assert_eq!(of_file(&show(&effective)).unwrap().settings, *settings);
    let looks =
        |rules: &str| of_file(&format!("[jobs]\nrules = [{rules}]")).unwrap().settings.jobs.look_at_environments();
    assert_eq!(
        (looks(""), looks("{ command_line = '(?<job>x)' }"), looks("{ environment = 'A' }")),
        (false, false, true)
    );
}

#[test]
fn rules_of_jobs_that_cannot_be_used_are_refused() {
    let wanted = |rule: &str| refusal(&format!("[jobs]\nrules = [{rule}]")).lines().next().unwrap().to_owned();
    let group = "wanted a regular expression with a group named job";
    assert_eq!(wanted("'/x'"), format!("test.toml: jobs.rules has \"/x\", {group}"));
    assert_eq!(wanted("{ unit = '(' }"), format!("test.toml: jobs.rules has {{ unit = \"(\" }}, {group}"));
    assert_eq!(wanted("{ pod = 'x' }"), format!("test.toml: jobs.rules has {{ pod = \"x\" }}, {group}"));
    let pair = "{ environment = \"A\", pattern = \"(?<id>x)\" }";
    assert_eq!(
        wanted("{ pattern = '(?<id>x)', environment = 'A' }"),
        format!("test.toml: jobs.rules has {pair}, {group}")
    );
    for name in ["", "A=B"] {
        assert_eq!(
            wanted(&format!("{{ environment = '{name}' }}")),
            format!(
                "test.toml: jobs.rules has {{ environment = \"{name}\" }}, wanted the name of an environment variable"
            )
        );
    }
    let one = "wanted one of environment, command_line, unit and pod, and pattern with environment only";
    assert_eq!(wanted("{}"), format!("test.toml: jobs.rules has {{}}, {one}"));
    for rule in ["{ unit = '(?<job>x)', pod = '(?<job>x)' }", "{ unit = '(?<job>x)', pattern = '(?<job>x)' }"] {
        assert!(wanted(rule).ends_with(one), "{}", wanted(rule));
    }
    assert_eq!(
        refusal("[jobs]\nrules = [{ enviroment = 'A' }]"),
        "test.toml:2: unknown key enviroment\nhint: did you mean environment?"
    );
    assert_eq!(
        refusal("[jobs]\nrules = [5]"),
        "test.toml:2: rules is integer `5`, wanted a list of patterns and tables"
    );
}

#[test]
fn the_name_of_a_node_is_a_line_of_text() {
    for id in ["", " a", "a\\n", "a\\u0000b", &"x".repeat(254)] {
        let refused = refusal(&format!("[node]\nid = \"{id}\""));
        assert!(refused.starts_with("test.toml: node.id is \""), "{refused}");
        assert!(refused.ends_with("wanted a name of 1 to 253 bytes without control characters and spaces around it"));
    }
    assert_eq!(of_file("[node]\nid = \"węzeł\"").unwrap().settings.node_id.as_deref(), Some("węzeł"));
    assert_eq!(defaults().node_id, None);
}

#[test]
fn config_show_names_origins_and_masks_passwords() {
    let text = show(&of_file("log_level = \"warn\"\n[upstream]\nx = \"http://me:hunter2@h:1/m\"").unwrap());
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).map(ToOwned::to_owned);
    assert_eq!(line("log_level").as_deref(), Some("log_level = \"warn\"  # file"));
    assert_eq!(line("log_format").as_deref(), Some("log_format = \"text\"  # default"));
    assert_eq!(line("x").as_deref(), Some("x = \"http://me:***@h:1/m\"  # file"));
    assert_eq!(line("# tls_cert").as_deref(), Some("# tls_cert is not set"));
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file() {
    let layer = |scope: &str| Input { scope: Some(scope.to_owned()), ..Input::default() };
    let mut layers = Layers { file: layer("host"), ..Layers::default() };
    let scope = |layers: &Layers| resolve::resolve(layers.clone()).unwrap().settings.scope;
    assert_eq!(scope(&layers), Scope::Host);
    layers.environment = layer("netns");
    assert_eq!(scope(&layers), Scope::Netns);
    layers.flags = layer("cgroup:/x");
    assert_eq!(scope(&layers), Scope::Cgroup(PathBuf::from("/x")));
}

#[test]
fn services_come_from_the_strongest_layer_and_keep_what_the_file_says_of_them() {
    let file =
        file::parse("[service.api]\nports = [9000]\n[service.web]\nports = [80]\nendpoint_limit = 7", "f").unwrap();
    let mut flags = Input::default();
    flags.add_ports("web".to_owned(), vec![81]);
    let settings = resolve::resolve(Layers { flags, file, ..Layers::default() }).unwrap().settings;
    let found: Vec<_> = settings
        .services
        .iter()
        .map(|service| (service.name.as_str(), service.ports.as_slice(), service.endpoint_limit))
        .collect();
    assert_eq!(found, [("web", [81].as_slice(), 7)]);
}

#[test]
fn the_environment_speaks_for_every_flag() {
    let effective = of_environment(&[
        ("SOCKMETER_LISTEN", "127.0.0.1:0"),
        ("SOCKMETER_SERVICE", "api=9000,9001 web=80"),
        ("SOCKMETER_UPSTREAM", "gpu=http://127.0.0.1:9400/metrics"),
        ("SOCKMETER_INTERFACE", "eth* wg0"),
        ("SOCKMETER_NO_PIN", "true"),
        ("SOCKMETER_LOG_LEVEL", "trace"),
        ("SOCKMETER_PORT", "tcp://10.0.0.1:9464"),
        ("SOCKMETER_SCOPE", ""),
    ])
    .unwrap();
    let settings = effective.settings;
    assert_eq!(settings.listen, "127.0.0.1:0".parse().unwrap());
    assert_eq!(settings.service("api").unwrap().ports, [9000, 9001]);
    assert_eq!(settings.service("web").unwrap().ports, [80]);
    assert_eq!(settings.upstreams.first().unwrap().url, "http://127.0.0.1:9400/metrics");
    assert_eq!(settings.interfaces, ["eth*", "wg0"]);
    assert_eq!(settings.pin_dir, None);
    assert_eq!(settings.log.level, LogLevel::Trace);
    assert_eq!(settings.scope, Scope::Host);
}

#[test]
fn a_key_may_be_written_like_its_flag() {
    assert_eq!(of_file("pin-dir = \"/p\"").unwrap().settings.pin_dir, Some(PathBuf::from("/p")));
}

#[test]
fn refusals_name_the_place_the_value_and_what_was_wanted() {
    assert_eq!(refusal("\nlisten = 5"), "test.toml:2: listen is integer `5`, wanted a string");
    assert_eq!(
        refusal("scope = \"x\"\nlog_lvel = \"info\""),
        "test.toml:2: unknown key log_lvel\nhint: did you mean log_level?"
    );
    assert_eq!(
        refusal("[limits]\nzebra = 1"),
        "test.toml:2: unknown key zebra\nhint: the keys here are ports, processes, jobs, containers"
    );
    assert_eq!(
        refusal("scope = \"pod\""),
        "test.toml: scope is \"pod\", wanted host, netns, or cgroup: and an absolute path"
    );
    assert_eq!(
        refusal("log_level = \"loud\""),
        "test.toml: log_level is \"loud\", wanted one of error, warn, info, debug, trace"
    );
    assert_eq!(refusal("[limits]\nports = 0"), "test.toml: limits.ports is 0, wanted 1 or more");
    assert_eq!(
        refusal("[kernel]\nring_bytes = 100000"),
        "test.toml: kernel.ring_bytes is 100000, wanted a power of two from 65536"
    );
    assert_eq!(refusal("tls_cert = \"c\""), "test.toml: tls_cert is given without tls_key, wanted both");
    assert_eq!(refusal("scheduler_ca = \"c\""), "test.toml: scheduler_ca is given without scheduler_api, wanted both");
    assert_eq!(
        refusal("scheduler_api = \"https://h:1\"").lines().next(),
        Some("test.toml: scheduler_api is an https URL without scheduler_ca, wanted both")
    );
    for url in ["http://h:99999", "http://h:x", "http://h:/jobs", "http://[::1]:-1"] {
        assert_eq!(
            refusal(&format!("scheduler_api = \"{url}\"")),
            format!("test.toml: scheduler_api is \"{url}\", wanted a URL such as http://127.0.0.1:9090/metrics")
        );
    }
    assert_eq!(
        refusal("scheduler_api = \"http://h/api?key=1\""),
        "test.toml: scheduler_api is \"http://h/api?key=1\", wanted a URL without a query, for the lists' paths to stand behind it"
    );
    assert_eq!(
        refusal("[service.a]\nports = [80]\n[service.b]\nports = [80]"),
        "port 80 is given to two services, a and b, wanted one service a port\n\
         hint: take the port from one of them, or give both sets of ports to a"
    );
    assert_eq!(
        refusal("[service.a]\nsize_buckets = [2, 1]\nports = [1]"),
        "test.toml: service.a.size_buckets is [2, 1], wanted one or more sizes in bytes above 0, each larger than the one before"
    );
    assert_eq!(
        refusal("[service.a]\nendpoint_limit = 9"),
        "service a has no ports, wanted at least one\nhint: add ports = [8080] under [service.a], or --service a=8080"
    );
}

#[test]
fn one_service_may_be_a_node_of_a_distributed_llm() {
    let table = |name: &str, port: u16| format!("[service.{name}]\nports = [{port}]\ndistributed_llm = true\n");
    let settings = of_file(&(table("a", 50_051) + "[observe]\nhttp = false\n")).unwrap().settings;
    assert_eq!((settings.llm_ports, settings.services), (vec![50_051], vec![]));
    assert_eq!(defaults().llm_ports, [0_u16; 0]);
    assert_eq!(
        refusal(&(table("a", 1) + &table("b", 2))),
        "a and b have distributed_llm, wanted one service at most\n\
         hint: the families distributed_llm_* do not say which service's they are"
    );
}

#[test]
fn names_that_other_metrics_use_are_refused() {
    for name in
        ["sockmeter", "process", "upstream_x", "ffrtmp", "distributed_llm", "tobogganing_client", "Api", "9x", "a-b"]
    {
        let refused = refusal(&format!("[service.\"{name}\"]\nports = [80]"));
        let sentence = refused.lines().next().unwrap();
        assert_eq!(
            sentence.strip_prefix("test.toml: service has the name ").unwrap().split(',').next().unwrap(),
            format!("{name:?}")
        );
    }
    assert_eq!(of_file("[service.processor]\nports = [80]").unwrap().settings.services.len(), 1);
}

#[test]
fn an_address_that_others_can_reach_wants_a_check_of_who_asks() {
    let sentence = "listen is 0.0.0.0:9464, which others can reach, and nothing says who may read it";
    let open = "listen = \"0.0.0.0:9464\"\n";
    assert_eq!(refusal(open).lines().next().unwrap(), sentence);
    let tls = "tls_cert = \"c\"\ntls_key = \"k\"\n";
    assert_eq!(refusal(&format!("{open}{tls}")).lines().next().unwrap(), sentence);
    for enough in ["insecure = true\n", "auth_token_file = \"t\"\n", &format!("{tls}tls_client_ca = \"ca\"\n")] {
        assert_eq!(of_file(&format!("{open}{enough}")).unwrap().settings.listen, "0.0.0.0:9464".parse().unwrap());
    }
    assert_eq!(of_file("listen = \"[::ffff:127.0.0.1]:1\"").unwrap().settings.listen.port(), 1);
}

#[test]
fn a_stronger_no_pin_beats_a_weaker_directory_and_the_other_way_round() {
    let with_dir = file::parse("pin_dir = \"/p\"", "f").unwrap();
    let without = file::parse("no_pin = true", "f").unwrap();
    let dir = |file: &Input, flags: &Input| {
        let layers = Layers { file: file.clone(), flags: flags.clone(), ..Layers::default() };
        resolve::resolve(layers).map(|effective| effective.settings.pin_dir)
    };
    assert_eq!(dir(&with_dir, &without), Ok(None));
    assert_eq!(dir(&without, &with_dir), Ok(Some(PathBuf::from("/p"))));
    assert_eq!(
        refusal("pin_dir = \"/p\"\nno_pin = true"),
        "test.toml: pin_dir is /p while test.toml: no_pin says to pin nothing, wanted one of the two"
    );
}

#[test]
fn what_this_build_cannot_do_is_refused_by_name() {
    assert_eq!(refuse_unavailable(&defaults()), Ok(()));
    let settings = of_file("remote_write = \"http://h/w\"").unwrap().settings;
    assert_eq!(
        refuse_unavailable(&settings).unwrap_err().to_string(),
        "remote_write is set, but remote write is not available in this build\n\
         hint: take remote_write and what belongs to it out of the configuration"
    );
}
