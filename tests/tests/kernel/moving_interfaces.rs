//! Interfaces that come, go, change their names and move between namespaces: the counters equal the kernel's own for as
//! long as we were attached, and keep what they counted.

use anyhow::Result;
use nix::sys::signal::Signal;
use sockmeter_tests::agent::Agent;
use sockmeter_tests::connection::{Request, storm};
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::page::Page;
use sockmeter_tests::server::Server;
use sockmeter_tests::wait;

use crate::interfaces::{both, device, ours};

/// Two namespaces without IPv6, whose devices would say something of their own accord, and a server in the second.
struct Ground {
    here: Namespace,
    there: Namespace,
    _server: Server,
}

impl Ground {
    fn new() -> Result<Self> {
        let (here, there) = (Namespace::new()?, Namespace::new()?);
        for namespace in [&here, &there] {
            namespace.enter(|| Ok(std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")?))?;
            namespace.enter(|| Ok(std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?))?;
        }
        let server = Server::start(&there, "0.0.0.0:8080", 4)?;
        Ok(Self { here, there, _server: server })
    }

    /// A veth pair between the two, with index 77 here.
    fn link(&self, name: &str) -> Result<()> {
        let peer = self.there.name();
        self.here.ip(&["link", "add", name, "index", "77", "type", "veth", "peer", "name", "far", "netns", peer])?;
        self.there.ip(&["addr", "add", "10.77.0.2/24", "dev", "far"])?;
        self.there.ip(&["link", "set", "far", "up"])?;
        self.up(name)
    }

    /// Gives our end its address.
    fn up(&self, name: &str) -> Result<()> {
        self.here.ip(&["addr", "add", "10.77.0.1/24", "dev", name])?;
        self.here.ip(&["link", "set", name, "up"]).map(drop)
    }

    fn traffic(&self) -> Result<()> {
        let to = "10.77.0.2:8080".parse()?;
        storm(&self.here, &[to], &Request::post("/jobs", 30_000), 2, 20).map(drop)
    }

    /// Loads the interface, and gives what we and the device counted meanwhile, and what we count now.
    fn counted(&self, agent: &Agent<'_>, name: &str) -> Result<[[u64; 2]; 3]> {
        let (ours_before, device_before, _) = both(agent, &self.here, name)?;
        self.traffic()?;
        let (ours_after, device_after, _) = both(agent, &self.here, name)?;
        let more = |after: [u64; 2], before: [u64; 2]| [after[0] - before[0], after[1] - before[1]];
        let device = more(device_after, device_before);
        assert!(device[1] > 600_000, "the load did not cross {name}");
        Ok([more(ours_after, ours_before), device, ours_after])
    }

    /// We count what the device counts. Gives what we count now.
    fn exact(&self, agent: &Agent<'_>, name: &str) -> Result<[u64; 2]> {
        let [ours, device, now] = self.counted(agent, name)?;
        assert_eq!(ours, device, "{name}");
        Ok(now)
    }

    /// We do so sooner or later: nobody says when the agent has noticed what happened.
    fn becomes_exact(&self, agent: &Agent<'_>, name: &str) -> Result<()> {
        wait::until(&format!("the programs on {name}"), || {
            let [ours, device, _] = self.counted(agent, name)?;
            Ok((ours == device).then_some(()))
        })
    }
}

fn attached(agent: &Agent<'_>, name: &str) -> Result<Page> {
    agent.scrape_until(&format!("the programs on {name}"), |page| {
        ["interface_receives", "interface_sends"]
            .iter()
            .all(|program| page.sum("sockmeter_program_attached", &[("program", program), ("target", name)]) == 1.0)
    })
}

/// Waits until the agent knows that the device is not here any more.
fn gone(agent: &Agent<'_>, name: &str) -> Result<Page> {
    agent.scrape_until(&format!("the end of {name}"), |page| {
        let of_it = |family| page.family(family).any(|(labels, _)| labels.values().any(|value| value == name));
        !of_it("sockmeter_interface_kernel_bytes_total") && !of_it("sockmeter_program_attached")
    })
}

fn is_on(page: &Page, name: &str) -> bool {
    page.family("sockmeter_interface_transmit_bytes_total")
        .any(|(labels, _)| labels.get("interface").is_some_and(|found| found == name))
}

#[test]
fn a_renamed_interface_keeps_its_bytes() -> Result<()> {
    let ground = Ground::new()?;
    ground.link("old")?;
    let agent = Agent::start(&ground.here, &[])?;
    let before = ground.exact(&agent, "old")?;
    let devices = device(&ground.here, "old")?;
    ground.here.ip(&["link", "set", "old", "down"])?;
    ground.here.ip(&["link", "set", "old", "name", "new"])?;
    ground.here.ip(&["link", "set", "new", "up"])?;
    let page = attached(&agent, "new")?;
    assert!(!is_on(&page, "old"), "the old name is still there");
    let after = ground.exact(&agent, "new")?;
    let now = device(&ground.here, "new")?;
    assert_eq!([after[0] - before[0], after[1] - before[1]], [now[0] - devices[0], now[1] - devices[1]]);
    Ok(())
}

#[test]
fn an_interface_that_comes_again_goes_on_counting() -> Result<()> {
    let ground = Ground::new()?;
    let agent = Agent::start(&ground.here, &[])?;
    let mut before = [0, 0];
    for _ in 0..3 {
        ground.link("va")?;
        let page = attached(&agent, "va")?;
        assert!(ours(&page, "va")[1] >= before[1], "what was counted before is gone");
        before = ground.exact(&agent, "va")?;
        ground.here.ip(&["link", "delete", "va"])?;
        // What was counted stays, and nothing is added by somebody else.
        assert_eq!(ours(&gone(&agent, "va")?, "va"), before);
    }
    Ok(())
}

#[test]
fn an_interface_that_is_replaced_at_once_is_counted() -> Result<()> {
    let ground = Ground::new()?;
    let mut agent = Agent::start(&ground.here, &[])?;
    ground.link("va")?;
    attached(&agent, "va")?;
    let first = ground.exact(&agent, "va")?;
    for (name, before) in [("va", first), ("vb", [0, 0])] {
        // The same index, before the agent looked.
        agent.process().stop()?;
        ground.here.ip(&["link", "delete", "va"])?;
        ground.link(name)?;
        agent.process().signal(Signal::SIGCONT)?;
        ground.becomes_exact(&agent, name)?;
        assert!(ours(&agent.scrape()?, name)[1] >= before[1], "{name} lost what was counted before");
        ground.exact(&agent, name)?;
    }
    Ok(())
}

#[test]
fn another_interface_with_the_same_index_has_its_own_bytes() -> Result<()> {
    let ground = Ground::new()?;
    let agent = Agent::start(&ground.here, &[])?;
    ground.link("first")?;
    attached(&agent, "first")?;
    let first = ground.exact(&agent, "first")?;
    ground.here.ip(&["link", "delete", "first"])?;
    gone(&agent, "first")?;
    ground.link("second")?;
    let page = attached(&agent, "second")?;
    assert_eq!(ours(&page, "first"), first);
    ground.exact(&agent, "second")?;
    let (second, device, page) = both(&agent, &ground.here, "second")?;
    assert!(second[1] <= device[1], "the second has {second:?}, its device {device:?}: it has bytes of the first");
    assert_eq!(ours(&page, "first"), first);
    Ok(())
}

#[test]
fn an_interface_that_moves_away_and_back_is_counted_while_it_is_here() -> Result<()> {
    let ground = Ground::new()?;
    let away = Namespace::new()?;
    ground.link("va")?;
    let mut agent = Agent::start(&ground.here, &[])?;
    let before = ground.exact(&agent, "va")?;
    ground.here.ip(&["link", "set", "va", "netns", away.name()])?;
    gone(&agent, "va")?;
    away.ip(&["addr", "add", "10.77.0.1/24", "dev", "va"])?;
    away.ip(&["link", "set", "va", "up"])?;
    storm(&away, &["10.77.0.2:8080".parse()?], &Request::post("/jobs", 30_000), 2, 20)?;
    assert_eq!(ours(&agent.scrape()?, "va"), before, "counted while it was away");
    away.ip(&["link", "set", "va", "netns", ground.here.name()])?;
    ground.up("va")?;
    attached(&agent, "va")?;
    ground.exact(&agent, "va")?;

    // Away and back before the agent looked.
    agent.process().stop()?;
    ground.here.ip(&["link", "set", "va", "netns", away.name()])?;
    away.ip(&["link", "set", "va", "netns", ground.here.name()])?;
    ground.up("va")?;
    agent.process().signal(Signal::SIGCONT)?;
    ground.becomes_exact(&agent, "va")?;
    ground.exact(&agent, "va")?;
    Ok(())
}
