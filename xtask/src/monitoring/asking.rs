//! Whether what `cargo xtask monitoring up` started answers, and whether there is room for it. Starting it is `docker`'s and
//! `packages`'.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::{AGENT, GRAFANA, PROMETHEUS, VICTORIA_METRICS, VMALERT, docker};
use crate::steps::Steps;
use crate::workspace::Workspace;

/// Until the agent's page can be asked for: a scrape comes every 15 seconds, and VictoriaMetrics leaves out the newest 30.
const FIRST_SCRAPE: Duration = Duration::from_mins(1);

/// What is asked of whom, and what the answer must have in it.
type Question = (&'static str, &'static str, &'static str, &'static str);

/// Asks everybody who should answer.
pub(super) fn check(workspace: &Workspace, steps: &Steps) -> Result<()> {
    let query = "/api/v1/query?query=sockmeter_build_info";
    let mut questions: Vec<Question> = vec![
        ("agent", AGENT, "/healthz", "healthy"),
        ("VictoriaMetrics", VICTORIA_METRICS, "/health", ""),
        ("VictoriaMetrics has the agent's page", VICTORIA_METRICS, query, "sockmeter_build_info"),
    ];
    let by_docker = docker::is_up(workspace);
    if by_docker {
        let proxied = "/api/datasources/proxy/uid/DS_VICTORIAMETRICS/api/v1/query?query=sockmeter_build_info";
        questions.push(("vmalert has the rules", VMALERT, "/api/v1/rules", "LedgerOutOfBalance"));
        questions.push(("Grafana", GRAFANA, "/api/health", "ok"));
        questions.push(("Grafana has the dashboards", GRAFANA, "/api/dashboards/uid/sockmeter-agent", "Agent Health"));
        questions.push(("Grafana has the agent's page", GRAFANA, proxied, "sockmeter_build_info"));
    } else {
        questions.push(("Prometheus", PROMETHEUS, "/-/ready", ""));
        questions.push(("Prometheus has the rules", PROMETHEUS, "/api/v1/rules", "LedgerOutOfBalance"));
        questions.push(("Prometheus has the agent's page", PROMETHEUS, query, "sockmeter_build_info"));
    }
    let mut failed = 0u32;
    let deadline = Instant::now().checked_add(FIRST_SCRAPE).context("no such time")?;
    for question in questions {
        // While somebody does not answer at all there is nothing to wait for.
        let patience = if failed == 0 { deadline.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
        let said = answer(question, patience);
        failed = failed.saturating_add(u32::from(said != "yes"));
        steps.say(format_args!("{}: {said}", question.0));
    }
    if failed > 0 {
        let logs = if by_docker { docker::LOGS } else { "in target/monitoring" };
        bail!("{failed} of these should be yes\nhint: cargo xtask monitoring up; logs: {logs}");
    }
    Ok(())
}

/// Whether the answer has what it should; one that does not have it yet is asked for again, for so long.
fn answer((_, address, path, wanted): Question, patience: Duration) -> String {
    let since = Instant::now();
    loop {
        match get(address, path) {
            Ok(body) if body.contains(wanted) => return "yes".to_owned(),
            Ok(_) if since.elapsed() < patience => thread::park_timeout(Duration::from_millis(500)),
            Ok(_) => return format!("no: {address} answers {path} without {wanted:?}"),
            Err(error) => return format!("no: {error:#}"),
        }
    }
}

/// Refuses an address where somebody listens whom we did not start.
pub(super) fn is_free(name: &str, address: &str) -> Result<()> {
    if TcpStream::connect(address).is_ok() {
        bail!(
            "{name}: somebody else listens at {address}, wanted that address free\nhint: end that, or look at what it serves"
        );
    }
    Ok(())
}

/// The body of a page, if its status is 200.
pub(super) fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    // The answer of HTTP/1.0 ends with the connection.
    // In one piece, or who answers the first and goes away resets the connection.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => bail!("{address} answers {path} with {}", answer.lines().next().unwrap_or_default()),
    }
}

/// Whether what answers there is an agent that can be scraped as it is, such as the host's own service.
pub(super) fn is_an_agent(address: &str) -> bool {
    get(address, "/metrics").is_ok_and(|page| page.contains("sockmeter_build_info"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Says these bodies, one after the other, and then nothing any more.
    fn says(bodies: &'static [&'static str]) -> Result<&'static str> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string().leak();
        thread::spawn(move || {
            for body in bodies {
                let Ok((mut stream, _)) = listener.accept() else { return };
                let _ = stream.read(&mut [0; 1024]);
                let _ = write!(stream, "HTTP/1.0 200 OK\r\n\r\n{body}");
            }
        });
        Ok(address)
    }

    #[test]
    fn what_comes_with_the_first_scrape_is_waited_for() -> Result<()> {
        let address = says(&["[]", "[]", "[up]"])?;
        assert_eq!(answer(("page", address, "/", "up"), Duration::from_secs(30)), "yes");
        let address = says(&["[]"])?;
        let wanted = format!("no: {address} answers / without \"up\"");
        assert_eq!(answer(("page", address, "/", "up"), Duration::ZERO), wanted);
        Ok(())
    }

    #[test]
    fn an_address_where_somebody_listens_is_refused() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let said = is_free("agent", &address).map_err(|error| error.to_string());
        let wanted = format!("agent: somebody else listens at {address}, wanted that address free");
        assert_eq!(said.as_ref().map_err(|said| said.lines().next()), Err(Some(&*wanted)));
        assert!(!is_an_agent(says(&["<html>a page of somebody else's</html>"])?));
        assert!(is_an_agent(says(&["sockmeter_build_info{version=\"0.1.0\"} 1"])?));
        drop(listener);
        Ok(())
    }
}
