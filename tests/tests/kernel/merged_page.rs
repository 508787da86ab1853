//! Our page with a real exporter's on it, judged by promtool and scraped by a real Prometheus; and with a broken one's.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use sockmeter_tests::agent::Agent;
use sockmeter_tests::client::{Step, chunked_server, play};
use sockmeter_tests::load::patience;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::page::Page;
use sockmeter_tests::process::{Process, output, run};
use sockmeter_tests::wait;

const OURS: &str = r#"scheduler_http_request_bytes_total{endpoint="/jobs",method="POST"}"#;

/// What both we and the exporter say of ourselves.
const PROCESS: [&str; 6] = [
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
];

/// What promtool finds to say, and its exit code.
fn promtool(namespace: &Namespace, agent: &Agent<'_>, query: &str) -> Result<(String, Option<i32>)> {
    let command = format!("curl -sS --fail '{}/metrics{query}' | promtool check metrics", agent.url());
    let said = output(namespace.command("sh").args(["-c", &command]))?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    Ok((text, said.status.code()))
}

fn five_posts(namespace: &Namespace) -> Result<()> {
    let posts = Step { method: "POST", target: "/jobs".to_owned(), body: 512, repeat: 5, ..Step::default() };
    play(namespace, "127.0.0.1", 8080, &[vec![posts]]).map(drop)
}

fn listens(namespace: &Namespace, port: u16) -> Result<bool> {
    namespace.enter(|| Ok(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()))
}

#[test]
fn promtool_has_nothing_to_say_about_our_names() -> Result<()> {
    let namespace = Namespace::new()?;
    let _server = chunked_server(&namespace, 8080)?;
    let agent = Agent::start(&namespace, &[])?;
    five_posts(&namespace)?;
    agent.scrape_until("the exchanges", |page| page.get(OURS) == Some(2560.0))?;
    assert_eq!(promtool(&namespace, &agent, "")?, (String::new(), Some(0)));
    Ok(())
}

#[test]
fn a_real_exporter_and_a_real_prometheus() -> Result<()> {
    let namespace = Namespace::new()?;
    let files = tempfile::tempdir()?;
    let _server = chunked_server(&namespace, 8080)?;
    let mut exporter = namespace.command("prometheus-node-exporter");
    exporter.args(["--web.listen-address=127.0.0.1:9100"]).stdout(Stdio::null()).stderr(Stdio::null());
    let _exporter = Process::start(&mut exporter)?;
    wait::until("the node exporter", || Ok(listens(&namespace, 9100)?.then_some(())))?;
    let agent = Agent::start(&namespace, &["--upstream", "scheduler=http://127.0.0.1:9100/metrics"])?;
    five_posts(&namespace)?;
    // Where all is slow, the exporter's first page may come too late.
    let page = agent.scrape_until("the exchanges and the exporter's page", |page| {
        page.get(OURS) == Some(2560.0) && page.get("sockmeter_upstream_up{upstream=\"scheduler\"}") == Some(1.0)
    })?;
    let (said, code) = promtool(&namespace, &agent, "")?;
    // 3: the linter dislikes some of the exporter's names; it must have nothing to say about ours.
    assert_eq!(code, Some(3), "{said}");
    let about_ours: Vec<&str> = said.lines().filter(|line| !line.starts_with("node_")).collect();
    assert_eq!(about_ours, Vec::<&str>::new());

    // Every family of the exporter's own page is on ours, none of it twice.
    let theirs = run(namespace.command("curl").args(["-sS", "http://127.0.0.1:9100/metrics"]))?;
    let families = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned())).collect()
    };
    let merged = families(page.text());
    let count = |wanted: &str| merged.iter().filter(|name| *name == wanted).count();
    for family in families(&theirs) {
        assert_eq!(count(&family), 1, "{family}");
        let is_ours_too = PROCESS.contains(&family.as_str());
        assert_eq!(count(&format!("upstream_{family}")), usize::from(is_ours_too), "{family}");
    }

    let config = files.path().join("prometheus.yml");
    // Which is also how long a scrape may last.
    let interval = patience().as_secs() / 15;
    let target = agent.url().trim_start_matches("http://");
    fs::write(
        &config,
        format!(
            "scrape_configs:\n- job_name: s\n  scrape_interval: {interval}s\n  static_configs:\n  - targets: ['{target}']\n"
        ),
    )?;
    let mut prometheus = namespace.command("prometheus");
    prometheus
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", files.path().join("data").display()))
        .arg("--web.listen-address=127.0.0.1:9090")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _prometheus = Process::start(&mut prometheus)?;
    let query = |expression: &str| -> Result<Option<String>> {
        let answer = output(
            namespace
                .command("curl")
                .args(["-sS", "--get", "http://127.0.0.1:9090/api/v1/query", "--data-urlencode"])
                .arg(format!("query={expression}")),
        )?;
        let Ok(answer) = serde_json::from_slice::<Value>(&answer.stdout) else {
            return Ok(None);
        };
        Ok(answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned))
    };
    assert_eq!(wait::until("Prometheus to have our value", || query(OURS))?, "2560");
    assert_eq!(wait::until("a second scrape", || query("up{job=\"s\"}"))?, "1");
    // Where all is slow, the exporter's page may come too late for one of the scrapes.
    assert_eq!(wait::until("the exporter's page in a scrape", || query("count(node_uname_info)"))?, "1");
    Ok(())
}

/// An exporter that answers every request with `body`, or never.
struct Exporter {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Exporter {
    fn start(namespace: &Namespace, body: Option<Vec<u8>>) -> Result<Self> {
        let listener = namespace.enter(|| Ok(TcpListener::bind("127.0.0.1:9100")?))?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut kept = Vec::new();
            while !stopping.load(Ordering::Relaxed) {
                let Ok((mut stream, _)) = listener.accept() else {
                    std::thread::park_timeout(Duration::from_millis(1));
                    continue;
                };
                let Some(body) = &body else {
                    kept.push(stream);
                    continue;
                };
                let _ = stream.set_nonblocking(false);
                let _ = stream.read(&mut [0; 4096]);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                // The reader may have had enough before the end.
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn a_broken_exporter_never_takes_ours_along() -> Result<()> {
    let namespace = Namespace::new()?;
    let _server = chunked_server(&namespace, 8080)?;
    let agent = Agent::start(&namespace, &["--upstream", "scheduler=http://127.0.0.1:9100/metrics"])?;
    five_posts(&namespace)?;
    agent.scrape_until("the exchanges", |page| page.get(OURS) == Some(2560.0))?;
    let up = |page: &Page| page.get("sockmeter_upstream_up{upstream=\"scheduler\"}");
    let check = |what: &str, expected: f64| -> Result<Page> {
        let page = agent.scrape().context(what.to_owned())?;
        assert_eq!(page.get(OURS), Some(2560.0), "{what}");
        assert_eq!(up(&page), Some(expected), "{what}");
        let (said, code) = promtool(&namespace, &agent, "")?;
        // 3: the linter dislikes somebody else's name. 1 would be a page that cannot be read.
        assert!(matches!(code, Some(0 | 3)), "{what}: {code:?} {said}");
        Ok(page)
    };
    check("dead", 0.0)?;
    {
        let _exporter = Exporter::start(&namespace, None)?;
        check("slow", 0.0)?;
    }
    {
        let garbage: Vec<u8> = (0..200_000u32).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        let _exporter = Exporter::start(&namespace, Some(garbage))?;
        check("garbage", 1.0)?;
    }
    {
        let interleaved = b"# TYPE a_total counter\na_total{x=\"1\"} 1\n# TYPE b gauge\nb 2\na_total{x=\"2\"} 3\nb 2\n\
            # TYPE scheduler_http_requests_total counter\nscheduler_http_requests_total 99\n";
        let _exporter = Exporter::start(&namespace, Some(interleaved.to_vec()))?;
        let page = check("interleaved", 1.0)?;
        assert_eq!(page.get("a_total{x=\"1\"}"), Some(1.0));
        assert_eq!(page.get("a_total{x=\"2\"}"), Some(3.0));
        assert_eq!(page.get("b"), Some(2.0));
        assert_eq!(page.get("scheduler_http_requests_total"), Some(5.0));
        assert_eq!(page.get("upstream_scheduler_http_requests_total"), Some(99.0));
    }
    {
        let line = "x_total{label=\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"} 1\n";
        let _exporter = Exporter::start(&namespace, Some(line.repeat(52_000_000 / line.len()).into_bytes()))?;
        let page = agent.scrape()?;
        assert_eq!(page.get(OURS), Some(2560.0), "50 MB");
    }
    check("dead again", 0.0)?;
    Ok(())
}
