//! `docs/metrics.md` is the catalogue as a page for people; here it is made, and held equal to the file. The list itself
//! is `exposition::catalog`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use sockmeter::exposition::Family;
use sockmeter::exposition::catalog::{self, ALL};
use sockmeter_ebpf::layout::LOSS_NAMES;
use sockmeter_ebpf::posting::Reason;

/// Set to `1`, the file is written instead of compared.
const UPDATE: &str = "UPDATE_DOCS";

/// Columns of the page.
const WIDTH: usize = 120;

/// Headings, each with what the names below it begin with; the last one takes the rest.
const SECTIONS: [(&str, &[&str]); 10] = [
    ("HTTP of an observed service", &[Family::PLACEHOLDER, "sockmeter_service_", "sockmeter_ledger_"]),
    ("Sockets", &["sockmeter_socket", "sockmeter_tcp_"]),
    ("Interfaces", &["sockmeter_interface_"]),
    ("WireGuard", &["sockmeter_wireguard_"]),
    ("Jobs and containers", &["sockmeter_job_", "sockmeter_no_job_", "sockmeter_container_"]),
    ("The node that the agent runs on", &["ffrtmp_worker_"]),
    ("A service with `distributed_llm` as a node of a distributed LLM", &["distributed_llm_"]),
    ("The scheduler's own state, with `scheduler_api` only", &["ffrtmp_", "sockmeter_scheduler_"]),
    ("The agent's process", &["process_"]),
    ("The agent about itself", &[""]),
];

const BEGINNING: &str = "\
# Metrics

<!-- Generated from agent/src/exposition/catalog.rs: UPDATE_DOCS=1 cargo test -p sockmeter docs_ -->

Every family that the agent itself puts on `/metrics`. `{service}` stands for the name of an observed service, so the
default service `scheduler` has `scheduler_http_requests_total`.

* Receive and transmit are seen from this host; inbound and outbound from the observed service: a request to it is
  inbound, its response outbound.
* What was not measured is an absent sample, never a 0.
* A label's bounded set is filled first come, first served; what comes after that is `other`.
* Where bytes of a service are booked, the books balance, for each direction:
  `sockmeter_service_stream_bytes_total` = `{service}_http_wire_bytes_total` + `{service}_http_unattributed_bytes_total`
  + `sockmeter_service_open_bytes`. `sockmeter_ledger_imbalance_bytes` is what is left over: 0.
";

/// The whole page.
fn reference() -> String {
    let mut page = BEGINNING.to_owned();
    for (place, (title, _)) in SECTIONS.iter().enumerate() {
        let families: Vec<&Family> = ALL.iter().copied().filter(|family| section(family) == place).collect();
        write!(page, "\n## {title}\n").unwrap();
        for family in families {
            page.push_str(&entry(family));
        }
    }
    write!(page, "\n## Values of labels\n\n{}", label_values()).unwrap();
    page
}

/// Breaks a paragraph at `WIDTH`; every line but the first begins with `indent`.
fn wrapped(paragraph: &str, indent: &str) -> String {
    let mut lines = String::new();
    let mut width = 0;
    for word in paragraph.split(' ') {
        if width + word.len() + 1 > WIDTH {
            lines.push('\n');
            lines.push_str(indent);
            width = indent.len();
        } else if width > 0 {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(word);
        width += word.len();
    }
    lines + "\n"
}

/// The first section that has a beginning of the name.
fn section(family: &Family) -> usize {
    let has = |beginnings: &[&str]| beginnings.iter().any(|beginning| family.name.starts_with(beginning));
    SECTIONS.iter().position(|(_, beginnings)| has(beginnings)).unwrap()
}

/// One family: a list of entries reads better than a table whose cells are sentences.
fn entry(family: &Family) -> String {
    let Family { name, kind, unit, labels, help } = family;
    let labels = match labels {
        [] => "no labels".to_owned(),
        labels => labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", "),
    };
    let unit = if unit.is_empty() { String::new() } else { format!(", {}", unit.replace('_', " ")) };
    format!("\n### `{name}`\n\n{}\n{}", wrapped(&format!("{}{unit}; {labels}.", kind.word()), ""), wrapped(help, ""))
}

/// Closed sets that the code has as lists.
fn label_values() -> String {
    let code = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let unattributed = catalog::UNATTRIBUTED_BYTES.name;
    let reasons = code(&Reason::ALL.map(Reason::as_str));
    let (lost, losses) = (catalog::LOST.name, code(&LOSS_NAMES));
    let agents = "of the agent: `refused`, `damaged`, `cells`";
    wrapped(&format!("* `reason` of `{unattributed}`: {reasons}."), "  ")
        + &wrapped(&format!("* `reason` of `{lost}`, of the kernel side: {losses}; {agents}."), "  ")
}

#[test]
fn docs_metrics_page_is_the_catalogue() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let wanted = reference();
    if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
        fs::write(&file, &wanted).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap();
    assert!(
        found == wanted,
        "docs/metrics.md is not what the catalogue says\nhint: {UPDATE}=1 cargo test -p sockmeter docs_ writes it"
    );
}

#[test]
fn docs_have_each_family_once() {
    let page = reference();
    for family in ALL {
        let heading = format!("\n### `{}`\n", family.name);
        assert_eq!(page.matches(&heading).count(), 1, "{}", family.name);
    }
    assert_eq!(page.matches("\n### `").count(), ALL.len());
}
