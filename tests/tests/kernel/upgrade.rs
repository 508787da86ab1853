//! Another sockmeter takes over what one left pinned, in the middle of a load: no gap, no reset, no double count; and what
//! it does not know it leaves as it is.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use nix::sys::signal::Signal;
use sockmeter_tests::agent::{Agent, binary, only_the_scrape_is_left, pin_dir};
use sockmeter_tests::client::{Step, chunked_server, play};
use sockmeter_tests::connection::{Request, counted, exchange, open};
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::process::{output, run};
use sockmeter_tests::server::{ANSWER, Server};
use sockmeter_tests::tally::{Tally, whole};
use sockmeter_tests::wait;

use crate::equal_books::balanced;
use crate::interfaces::both;

/// The kernel programs as another build would have them: a byte behind the object's end is another object.
fn other_object(folder: &Path) -> Result<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf/sockmeter.bpf.o");
    let mut object = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    object.push(0);
    let other = folder.join("other.bpf.o");
    fs::write(&other, object)?;
    Ok(other)
}

/// Writes another version into the pinned layout.
pub(crate) fn set_version(pins: &Path, version: u8) -> Result<()> {
    let map = pins.join("maps/LAYOUT");
    let said = run(Command::new("bpftool")
        .args(["-j", "map", "lookup", "pinned"])
        .arg(&map)
        .args(["key", "0", "0", "0", "0"]))?;
    let said: serde_json::Value = serde_json::from_str(&said)?;
    let value = said["value"].as_array().context("no value")?;
    let mut bytes: Vec<String> = value.iter().filter_map(|byte| Some(byte.as_str()?.to_owned())).collect();
    *bytes.first_mut().context("an empty value")? = format!("{version:#04x}");
    run(Command::new("bpftool")
        .args(["map", "update", "pinned"])
        .arg(&map)
        .args(["key", "0", "0", "0", "0", "value"])
        .args(bytes))?;
    Ok(())
}

/// UDP over the veth, from `there` to `here`, until told to stop: payload bytes so far.
fn datagrams(here: &Namespace, there: &Namespace, stop: &AtomicBool, bytes: &AtomicU64) -> Result<()> {
    let server = here.enter(|| Ok(UdpSocket::bind("10.77.0.1:5500")?))?;
    let client = there.enter(|| {
        let client = UdpSocket::bind("10.77.0.2:0")?;
        client.connect("10.77.0.1:5500")?;
        Ok(client)
    })?;
    while !stop.load(Ordering::Relaxed) {
        client.send(&[1; 200])?;
        server.recv(&mut [0; 200])?;
        bytes.fetch_add(200, Ordering::Relaxed);
    }
    Ok(())
}

/// What is observed of the load, and a port to which nobody connects any more behind the first agent's start.
const SERVICES: [&str; 4] = ["--service", "scheduler=8080", "--service", "kept=8081"];

/// HTTP, UDP and a veth under load; in the middle of it the agent is killed, `meanwhile` has its way with the pins, and
/// another build of it takes over. Connections from before go on meanwhile and afterwards. Everything is held to what the
/// clients and the device counted.
fn upgraded(meanwhile: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.connect(&there)?;
    let folder = tempfile::tempdir()?;
    let object = other_object(folder.path())?;
    let pins = pin_dir();
    let _server = chunked_server(&here, 8080)?;
    let mut agent = Agent::start_pinned(&here, &SERVICES, pins.clone())?;
    let server = Server::start(&here, "127.0.0.1:8081", 4)?;
    let (mut kept, asked) = (open(&here, server.address(), 3)?, Request::get("/kept"));
    exchange(&mut kept, &asked, 5)?;
    let before = both(&agent, &here, "va")?;
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let posts =
        vec![vec![Step { method: "POST", target: "/jobs".to_owned(), body: 512, repeat: 1_500, ..Step::default() }]; 4];
    let (agent, counts) = thread::scope(|scope| -> Result<_> {
        let http = scope.spawn(|| play(&here, "127.0.0.1", 8080, &posts));
        let udp = scope.spawn(|| datagrams(&here, &there, &stop, &sent));
        let more =
            |than: u64| wait::until("datagrams", || Ok((sent.load(Ordering::Relaxed) > than + 100_000).then_some(())));
        more(0)?;
        agent.scrape()?;
        agent.process().signal(Signal::SIGKILL)?;
        agent.process().wait()?;
        std::mem::forget(agent);
        more(sent.load(Ordering::Relaxed))?;
        exchange(&mut kept, &asked, 5)?;
        meanwhile(&pins)?;
        let other = [("SOCKMETER_KERNEL_OBJECT", object.as_os_str())];
        let agent = Agent::start_with(&here, &SERVICES, pins.clone(), &other)?;
        exchange(&mut kept, &asked, 5)?;
        more(sent.load(Ordering::Relaxed))?;
        let counts = http.join().map_err(|_| anyhow!("the clients panicked"))??;
        stop.store(true, Ordering::Relaxed);
        udp.join().map_err(|_| anyhow!("the datagrams panicked"))??;
        Ok((agent, counts))
    })?;
    let mut clients = Tally::default();
    for count in counts {
        count.tally(&mut clients, "/jobs");
    }
    let mut of_kept = Tally::default();
    asked.tally(&mut of_kept, "/kept", counted(&kept), ANSWER);
    assert_eq!(of_kept.exchanges(), 45);
    drop(kept);
    server.finish()?;
    let page = agent.scrape_until("all exchanges", |page| {
        Tally::of_page(page, "scheduler").exchanges() == clients.exchanges()
            && Tally::of_page(page, "kept").exchanges() == of_kept.exchanges()
            && only_the_scrape_is_left(page)
            && page.sum("sockmeter_sockets_closed_total", &[("protocol", "udp")]) == 1.0
    })?;
    assert_eq!(Tally::of_page(&page, "scheduler").differences(&clients), Vec::<String>::new());
    assert_eq!(Tally::of_page(&page, "kept").differences(&of_kept), Vec::<String>::new());
    balanced(&page);
    let datagrams = [("protocol", "udp"), ("port", "5500")];
    let received = page.sum("sockmeter_socket_receive_bytes_total", &datagrams);
    assert_eq!(whole(received), sent.load(Ordering::Relaxed));
    let (ours, device, _) = both(&agent, &here, "va")?;
    for direction in [0, 1] {
        assert_eq!(ours[direction] - before.0[direction], device[direction] - before.1[direction]);
    }
    let opened = page.sum("sockmeter_sockets_opened_total", &[("protocol", "udp")]);
    assert_eq!(opened, 1.0);
    Ok(())
}

#[test]
fn other_programs_take_over_without_a_gap() -> Result<()> {
    upgraded(|_| Ok(()))
}

/// Version 1 had no count of the blocks in use.
#[test]
fn an_older_layout_is_taken_over_without_a_gap() -> Result<()> {
    upgraded(|pins| {
        fs::remove_file(pins.join("maps/STASHED"))?;
        without_places(pins)?;
        without_batch(pins)?;
        without_ports(pins)?;
        set_version(pins, 1)
    })
}

/// Version 2 did not tell bytes apart by the place of who made their socket.
#[test]
fn a_layout_without_places_is_taken_over_without_a_gap() -> Result<()> {
    upgraded(|pins| {
        without_places(pins)?;
        without_batch(pins)?;
        without_ports(pins)?;
        set_version(pins, 2)
    })
}

/// Version 5 kept every posting by itself.
#[test]
fn a_layout_without_batches_is_taken_over_without_a_gap() -> Result<()> {
    upgraded(|pins| {
        without_batch(pins)?;
        without_ports(pins)?;
        set_version(pins, 5)
    })
}

/// Version 6 noted nothing of bodies.
#[test]
fn a_layout_without_bodies_is_taken_over_without_a_gap() -> Result<()> {
    upgraded(|pins| {
        without_ports(pins)?;
        set_version(pins, 6)
    })
}

/// Version 7 kept no ports: of the connections that it began nobody knows which.
#[test]
fn a_layout_without_ports_is_taken_over_without_a_gap() -> Result<()> {
    upgraded(|pins| {
        without_ports(pins)?;
        set_version(pins, 7)
    })
}

/// The same behind a start that died as soon as it had pinned its maps.
#[test]
fn ports_that_a_start_left_empty_are_not_believed() -> Result<()> {
    upgraded(|pins| {
        without_ports(pins)?;
        let map = ["type", "array", "key", "4", "value", "16392", "entries", "1", "name", "SERVED"];
        run(Command::new("bpftool").args(["map", "create"]).arg(pins.join("maps/SERVED")).args(map))?;
        set_version(pins, 7)
    })
}

/// Version 8 noted bodies with their sockets.
#[test]
fn a_layout_without_places_for_bodies_is_taken_over_without_a_gap() -> Result<()> {
    upgraded(|pins| {
        without_bodies(pins)?;
        set_version(pins, 8)
    })
}

/// Version 9 knew of no ends of bodies.
#[test]
fn a_layout_whose_bodies_have_no_ends_is_taken_over_without_a_gap() -> Result<()> {
    upgraded(|pins| set_version(pins, 9))
}

/// Removes what came with version 9.
fn without_bodies(pins: &Path) -> Result<()> {
    Ok(fs::remove_file(pins.join("maps/BODIES"))?)
}

/// Removes what came with version 8, and what came later.
fn without_ports(pins: &Path) -> Result<()> {
    without_bodies(pins)?;
    Ok(fs::remove_file(pins.join("maps/SERVED"))?)
}

/// Removes what came with version 6.
fn without_batch(pins: &Path) -> Result<()> {
    Ok(fs::remove_file(pins.join("maps/BOOK_BATCH"))?)
}

/// Removes what came with version 3.
fn without_places(pins: &Path) -> Result<()> {
    let maps = ["MAKER", "PLACE_SLOTS", "PLACE_TOTALS", "FREE_SLOTS", "CGROUP_NAMES", "CGROUPS_GONE", "BOOK_HOLDERS"];
    for map in maps {
        fs::remove_file(pins.join("maps").join(map))?;
    }
    for program in ["cgroup_made", "cgroup_renamed", "cgroup_gone"] {
        fs::remove_file(pins.join("links").join(program))?;
        fs::remove_file(pins.join("programs").join(program))?;
    }
    Ok(())
}

#[test]
fn an_unknown_layout_is_refused_and_left_as_it_is() -> Result<()> {
    let here = Namespace::new()?;
    let pins = pin_dir();
    let _server = chunked_server(&here, 8080)?;
    let mut agent = Agent::start_pinned(&here, &[], pins.clone())?;
    let posts =
        vec![vec![Step { method: "POST", target: "/jobs".to_owned(), body: 512, repeat: 5, ..Step::default() }]];
    play(&here, "127.0.0.1", 8080, &posts)?;
    agent.process().signal(Signal::SIGKILL)?;
    agent.process().wait()?;
    std::mem::forget(agent);
    set_version(&pins, 99)?;
    let arguments = ["run", "--listen", "127.0.0.1:0", "--scope", "netns", "--pin-dir"];
    let refused = output(here.command(&binary().to_string_lossy()).args(arguments).arg(&pins))?;
    let expected = format!(
        "error: what is pinned in {} is of layout 99, wanted 1 to 10\nhint: go on with the sockmeter that made it, or give \
         the counters up with `sockmeter detach` and begin anew\n",
        pins.display()
    );
    assert_eq!(String::from_utf8(refused.stderr)?, expected);
    assert_eq!(refused.status.code(), Some(3));
    // It goes on counting, for whoever knows it.
    play(&here, "127.0.0.1", 8080, &posts)?;
    set_version(&pins, 9)?;
    let agent = Agent::start_pinned(&here, &[], pins)?;
    let page = agent.scrape_until("all exchanges", |page| page.get("scheduler_http_requests_total") == Some(10.0))?;
    assert_eq!(page.sum("scheduler_http_exchanges_total", &[]), 10.0);
    Ok(())
}
