//! Five `POST /jobs` with 512-byte bodies, answered 200 with 256 bytes: what the old middleware's dashboards showed.

use anyhow::Result;
use serde_json::Value;
use sockmeter_tests::agent::Agent;
use sockmeter_tests::client::{Step, chunked_server, play};
use sockmeter_tests::namespace::Namespace;

#[test]
fn five_posts_give_the_old_numbers_to_the_letter() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    let _server = chunked_server(&namespace, 8080)?;
    let posts = Step { method: "POST", target: "/jobs".to_owned(), body: 512, repeat: 5, ..Step::default() };
    play(&namespace, "127.0.0.1", 8080, &[vec![posts]])?;
    let page = agent.scrape_until("five exchanges", |page| page.get("scheduler_http_requests_total") == Some(5.0))?;
    for line in [
        r#"scheduler_http_request_bytes_total{endpoint="/jobs",method="POST"} 2560"#,
        r#"scheduler_http_response_bytes_total{endpoint="/jobs",method="POST",status="200"} 1280"#,
        r#"scheduler_http_request_size_bytes_bucket{endpoint="/jobs",method="POST",le="100"} 0"#,
        r#"scheduler_http_request_size_bytes_bucket{endpoint="/jobs",method="POST",le="1000"} 5"#,
        r#"scheduler_http_request_size_bytes_bucket{endpoint="/jobs",method="POST",le="+Inf"} 5"#,
        r#"scheduler_http_request_size_bytes_sum{endpoint="/jobs",method="POST"} 2560"#,
        r#"scheduler_http_request_size_bytes_count{endpoint="/jobs",method="POST"} 5"#,
        r#"scheduler_http_bandwidth_bytes_total{direction="inbound"} 2560"#,
        r#"scheduler_http_bandwidth_bytes_total{direction="outbound"} 1280"#,
        "scheduler_http_requests_total 5",
    ] {
        assert!(page.text().lines().any(|found| found == line), "{line} is not in\n{}", page.text());
    }
    let stats: Value = serde_json::from_str(&agent.get("/api/v1/stats")?)?;
    let service = &stats["services"]["scheduler"];
    assert_eq!(service["total_bytes_received"], 2560);
    assert_eq!(service["total_bytes_sent"], 1280);
    assert_eq!(service["total_requests"], 5);
    assert_eq!(service["ledger_imbalance_bytes"], serde_json::json!({"inbound": 0, "outbound": 0}));
    Ok(())
}
