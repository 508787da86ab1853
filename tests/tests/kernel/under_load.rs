//! The books balance at every moment, not only when all is quiet.

use std::process::Stdio;

use anyhow::Result;
use sockmeter_tests::agent::Agent;
use sockmeter_tests::client::{Step, play};
use sockmeter_tests::load::load;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::nginx::Nginx;
use sockmeter_tests::process::Process;

#[test]
fn every_scrape_under_load_balances() -> Result<()> {
    let namespace = Namespace::new()?;
    let _nginx = Nginx::start(&namespace, &[("small.txt", 612), ("big.bin", 3_000_000)])?;
    // Room for all that wrk can do in this time: the machine may be busy with other things than the agent.
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("sockmeter.toml");
    std::fs::write(&file, "[kernel]\nring_bytes = 67108864\n")?;
    let agent = Agent::start(&namespace, &["--config", &file.to_string_lossy()])?;
    let mut wrk = namespace.command("wrk");
    let mut wrk = Process::start(
        wrk.args(["-t1", "-c16", "-d4", "http://127.0.0.1:8080/small.txt"]).stdout(Stdio::null()).stderr(Stdio::null()),
    )?;
    let step = |method, target: &str| Step { method, target: target.to_owned(), ..Step::default() };
    let bulk = vec![
        Step { repeat: load(20), ..step("GET", "/big.bin") },
        Step { repeat: load(20), body: 3_000_000, chunk: 10_000, ..step("POST", "/sink") },
    ];
    let (mut scrapes, mut last) = (0, 0.0);
    std::thread::scope(|scope| -> Result<()> {
        let playing = scope.spawn(|| play(&namespace, "127.0.0.1", 8080, &vec![bulk; 4]));
        while wrk.ended()?.is_none() || !playing.is_finished() {
            let page = agent.scrape()?;
            for (labels, imbalance) in page.family("sockmeter_ledger_imbalance_bytes") {
                assert_eq!(imbalance, 0.0, "{labels:?} at scrape {scrapes}\n{}", page.text());
            }
            let exchanges = page.sum("scheduler_http_exchanges_total", &[]);
            assert!(exchanges >= last, "a counter went down");
            last = exchanges;
            scrapes += 1;
        }
        playing.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
        Ok(())
    })?;
    assert!(scrapes > load(10), "only {scrapes} scrapes within the load");
    assert_eq!(agent.scrape()?.sum("sockmeter_lost_total", &[]), 0.0);
    Ok(())
}
