//! Prometheus, VictoriaMetrics and vmalert of Debian's packages in a namespace of the test's own, and what they answer.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::provision::Provision;
use crate::namespace::Namespace;
use crate::process::Process;
use crate::wait;

/// Names another Prometheus than the one on the path.
const PROGRAM_VARIABLE: &str = "SOCKMETER_PROMETHEUS";
/// Where Prometheus listens.
pub const PROMETHEUS: &str = "127.0.0.1:9090";
/// Where VictoriaMetrics listens.
pub const VICTORIA_METRICS: &str = "127.0.0.1:8428";
/// Where vmalert listens.
pub const VMALERT: &str = "127.0.0.1:8880";

/// One sample of an answer: its labels and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Labels as JSON has them.
    pub labels: Value,
    /// The value.
    pub value: f64,
}

/// All three, running.
#[derive(Debug)]
pub struct Backends<'a> {
    namespace: &'a Namespace,
    _processes: [Process; 3],
}

impl<'a> Backends<'a> {
    /// Starts them on the files of `provision` and waits until they answer. `notifier` is told of alerts by vmalert.
    ///
    /// # Errors
    /// When one does not come up, with what it said.
    pub fn start(namespace: &'a Namespace, provision: &Provision, notifier: &str) -> Result<Self> {
        let folder = provision.folder();
        let (here, url) = (folder.display(), format!("http://{VICTORIA_METRICS}"));
        let prometheus = [
            format!("--config.file={here}/prometheus.yml"),
            format!("--storage.tsdb.path={here}/prometheus"),
            format!("--web.listen-address={PROMETHEUS}"),
        ];
        let victoria_metrics = [
            format!("-promscrape.config={here}/scrape.yml"),
            format!("-storageDataPath={here}/victoria-metrics"),
            format!("-httpListenAddr={VICTORIA_METRICS}"),
            // Else the newest 30 seconds are not there to be asked for.
            "-search.latencyOffset=0s".to_owned(),
            "-search.disableCache".to_owned(),
        ];
        let vmalert = [
            format!("-rule={here}/rules/*.yaml"),
            format!("-httpListenAddr={VMALERT}"),
            format!("-datasource.url={url}"),
            format!("-remoteWrite.url={url}"),
            format!("-remoteRead.url={url}"),
            format!("-notifier.url=http://{notifier}"),
            "-evaluationInterval=1s".to_owned(),
            "-remoteWrite.flushInterval=500ms".to_owned(),
        ];
        let other = std::env::var(PROGRAM_VARIABLE).unwrap_or_else(|_| "prometheus".to_owned());
        let start = |program: &str, arguments: &[String], address: &str, ready: &str| -> Result<Process> {
            let log = folder.join(format!("{}.log", address.replace(':', "-")));
            let err = fs::File::create(&log)?;
            let out = err.try_clone()?;
            let mut command: Command = namespace.command(program);
            command.current_dir(folder).args(arguments).stdout(Stdio::from(out)).stderr(Stdio::from(err));
            let mut process = Process::start(&mut command)?;
            wait::until(program, || {
                if let Some(status) = process.ended()? {
                    bail!("{program} ended with {status}:\n{}", said(&log));
                }
                Ok(namespace.enter(|| Ok(get(address, ready).is_ok()))?.then_some(()))
            })
            .with_context(|| said(&log))?;
            Ok(process)
        };
        let processes = [
            start(&other, &prometheus, PROMETHEUS, "/-/ready")?,
            start("victoria-metrics", &victoria_metrics, VICTORIA_METRICS, "/health")?,
            start("vmalert", &vmalert, VMALERT, "/health")?,
        ];
        Ok(Self { namespace, _processes: processes })
    }

    /// What each of two back-ends answers to an expression, now; an error if one refuses it.
    ///
    /// # Errors
    /// With what it said of it.
    pub fn ask(&self, expression: &str) -> Result<[Vec<Sample>; 2]> {
        let one = |address| {
            let answer = get(address, &format!("/api/v1/query?query={}", encoded(expression)))
                .with_context(|| format!("{address} does not answer {expression}"))?;
            samples(&answer).with_context(|| format!("{address} answers {expression} with {answer}"))
        };
        self.namespace.enter(|| Ok([one(PROMETHEUS)?, one(VICTORIA_METRICS)?]))
    }

    /// A JSON answer.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, address: &str, path: &str) -> Result<Value> {
        self.namespace.enter(|| get(address, path))
    }
}

fn said(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
}

/// `GET` over HTTP/1.0, so that the answer ends with the connection. An answer that is no JSON is null.
fn get(address: &str, path: &str) -> Result<Value> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("half an answer")?;
    // A refused query is a JSON with the reason.
    ensure!(head.contains(" 200 ") || body.starts_with('{'), "{}", head.lines().next().unwrap_or_default());
    Ok(serde_json::from_str(body).unwrap_or(Value::Null))
}

pub(super) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn samples(answer: &Value) -> Result<Vec<Sample>> {
    ensure!(answer["status"] == "success", "an error");
    let result = &answer["data"]["result"];
    let of = |labels: &Value, value: &Value| -> Result<Sample> {
        let value = value[1].as_str().context("no value")?.parse()?;
        Ok(Sample { labels: labels.clone(), value })
    };
    match answer["data"]["resultType"].as_str() {
        Some("scalar") => Ok(vec![of(&Value::Null, result)?]),
        Some("vector") => {
            result.as_array().into_iter().flatten().map(|one| of(&one["metric"], &one["value"])).collect()
        }
        other => bail!("a result of type {other:?}"),
    }
}
