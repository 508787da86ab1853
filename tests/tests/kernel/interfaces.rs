//! Interface counters against the kernel's own device counters, on veth and on a WireGuard tunnel.

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde_json::Value;
use sockmeter_tests::agent::{Agent, pin_dir};
use sockmeter_tests::load::load;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::page::Page;
use sockmeter_tests::process::{Process, output, run};
use sockmeter_tests::tally::whole;
use sockmeter_tests::tunnel::Tunnel;
use sockmeter_tests::wait;

/// The device's own `[received, sent]` bytes.
pub(crate) fn device(namespace: &Namespace, name: &str) -> Result<[u64; 2]> {
    let said: Value = serde_json::from_str(&namespace.ip(&["-s", "-s", "-j", "link", "show", name])?)?;
    let bytes = |direction: &str| said[0]["stats64"][direction]["bytes"].as_u64().context("no bytes");
    Ok([bytes("rx")?, bytes("tx")?])
}

pub(crate) fn ours(page: &Page, name: &str) -> [u64; 2] {
    ["sockmeter_interface_receive_bytes_total", "sockmeter_interface_transmit_bytes_total"]
        .map(|family| whole(page.sum(family, &[("interface", name), ("netns", "self")])))
}

/// Our counters and the device's at a moment when nothing crossed between the readings.
pub(crate) fn both(agent: &Agent<'_>, namespace: &Namespace, name: &str) -> Result<([u64; 2], [u64; 2], Page)> {
    wait::until("a quiet moment", || {
        let before = device(namespace, name)?;
        let page = agent.scrape()?;
        Ok((device(namespace, name)? == before).then(|| (ours(&page, name), before, page)))
    })
}

/// Bytes of the largest connection.
const TCP: usize = 20_000_000;

/// TCP and UDP, both families, from one namespace to the other and back.
fn traffic(from: &Namespace, to: &Namespace, v4: &str, v6: &str) -> Result<()> {
    for (host, bytes, options) in [
        (v4, TCP, &[][..]),
        (v6, 5_000_000, &["-R"]),
        (v4, 1_000_000, &["-u", "-b", "20M"]),
        (v6, 1_000_000, &["-u", "-b", "20M"]),
    ] {
        let mut server =
            Process::start(to.command("iperf3").args(["-s", "-1", "-p", "5201"]).stdout(std::process::Stdio::null()))?;
        wait::until("iperf3 to listen", || {
            Ok(run(to.command("ss").args(["-Hltn", "sport", "=", ":5201"]))?.lines().next().map(|_| ()))
        })?;
        run(from.command("iperf3").args(["-c", host, "-p", "5201", "-n", &load(bytes).to_string()]).args(options))?;
        server.wait()?;
    }
    Ok(())
}

#[test]
fn bytes_equal_the_devices_own_on_a_veth_pair() -> Result<()> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.connect(&there)?;
    let agent = Agent::start(&here, &[])?;
    let (ours_before, device_before, _) = both(&agent, &here, "va")?;
    traffic(&here, &there, "10.77.0.2", "fd77::2")?;
    let (ours_after, device_after, page) = both(&agent, &here, "va")?;
    for direction in [0, 1] {
        assert_eq!(ours_after[direction] - ours_before[direction], device_after[direction] - device_before[direction]);
    }
    assert!(device_after[1] - device_before[1] > u64::try_from(load(TCP))? / 2, "the load did not cross");
    for (direction, value) in [("receive", device_after[0]), ("transmit", device_after[1])] {
        let series = format!(
            "sockmeter_interface_kernel_bytes_total{{direction=\"{direction}\",interface=\"va\",netns=\"self\"}}"
        );
        assert_eq!(page.get(&series).map(whole), Some(value));
    }
    Ok(())
}

#[test]
fn an_interface_that_appears_later_is_counted_from_its_first_byte() -> Result<()> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    let agent = Agent::start(&here, &[])?;
    here.connect(&there)?;
    agent.scrape_until("the interface", |page| {
        let labels = [("program", "interface_receives"), ("target", "va")];
        page.sum("sockmeter_program_attached", &labels) == 1.0
    })?;
    let (ours_before, device_before, _) = both(&agent, &here, "va")?;
    traffic(&here, &there, "10.77.0.2", "fd77::2")?;
    let (ours_after, device_after, _) = both(&agent, &here, "va")?;
    for direction in [0, 1] {
        assert_eq!(ours_after[direction] - ours_before[direction], device_after[direction] - device_before[direction]);
    }
    // What the kernel itself says of its groups (RFC 9777) ends here.
    here.ip(&["link", "set", "va", "down"])?;
    let (ours_last, device_last, _) = both(&agent, &here, "va")?;
    assert_eq!(ours_last[1] - ours_before[1], device_last[1] - device_before[1]);
    here.ip(&["link", "delete", "va"])?;
    let page = agent.scrape_until("the interface to go", |page| {
        page.family("sockmeter_interface_kernel_bytes_total")
            .all(|(labels, _)| labels.get("interface").is_none_or(|name| name != "va"))
    })?;
    assert_eq!(ours(&page, "va")[1], ours_last[1], "what was counted stays");
    Ok(())
}

#[test]
fn counting_goes_on_when_the_agent_is_killed_and_started_again() -> Result<()> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.connect(&there)?;
    let pins = pin_dir();
    let mut agent = Agent::start_pinned(&here, &[], pins.clone())?;
    let (ours_before, device_before, _) = both(&agent, &here, "va")?;
    traffic(&here, &there, "10.77.0.2", "fd77::2")?;
    agent.process().signal(Signal::SIGKILL)?;
    agent.process().wait()?;
    // Nobody is there, and it is counted all the same.
    traffic(&here, &there, "10.77.0.2", "fd77::2")?;
    // The old one must not clean up behind itself.
    std::mem::forget(agent);
    let agent = Agent::start_pinned(&here, &[], pins)?;
    traffic(&here, &there, "10.77.0.2", "fd77::2")?;
    let (ours_after, device_after, _) = both(&agent, &here, "va")?;
    for direction in [0, 1] {
        assert_eq!(ours_after[direction] - ours_before[direction], device_after[direction] - device_before[direction]);
    }
    Ok(())
}

/// Filters of a device's `clsact` qdisc: there are some where the kernel has no tcx.
fn filters(namespace: &Namespace, name: &str) -> Result<usize> {
    let mut count = 0;
    for direction in ["ingress", "egress"] {
        let said = output(namespace.command("tc").args(["filter", "show", "dev", name, direction]))?;
        count += String::from_utf8_lossy(&said.stdout).matches(" name interface_").count();
    }
    Ok(count)
}

#[test]
fn the_end_of_one_agent_is_not_that_of_another() -> Result<()> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.connect(&there)?;
    let agent = Agent::start(&here, &[])?;
    let other = Agent::start(&here, &[])?;
    let of_both = filters(&here, "va")?;
    let (ours_before, device_before, _) = both(&agent, &here, "va")?;
    traffic(&here, &there, "10.77.0.2", "fd77::2")?;
    // Detaches what it attached.
    drop(other);
    assert_eq!(filters(&here, "va")? * 2, of_both);
    traffic(&here, &there, "10.77.0.2", "fd77::2")?;
    let (ours_after, device_after, _) = both(&agent, &here, "va")?;
    for direction in [0, 1] {
        assert_eq!(ours_after[direction] - ours_before[direction], device_after[direction] - device_before[direction]);
    }
    drop(agent);
    assert_eq!(filters(&here, "va")?, 0);
    Ok(())
}

#[test]
fn bytes_equal_the_devices_own_on_wireguard() -> Result<()> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.connect(&there)?;
    let agent = Agent::start(&here, &[])?;
    let _tunnel = Tunnel::start(&here, &there)?;
    agent.scrape_until("wg0", |page| {
        page.sum("sockmeter_program_attached", &[("program", "interface_sends"), ("target", "wg0")]) == 1.0
    })?;
    let (ours_before, device_before, _) = both(&agent, &here, "wg0")?;
    traffic(&here, &there, "10.9.0.2", "fd09::2")?;
    let (ours_after, device_after, _) = both(&agent, &here, "wg0")?;
    for direction in [0, 1] {
        assert_eq!(ours_after[direction] - ours_before[direction], device_after[direction] - device_before[direction]);
    }
    assert!(device_after[1] - device_before[1] > u64::try_from(load(TCP))? / 2, "the load did not cross");
    Ok(())
}
