//! Killed, stopped, started again: the books go on without a gap, a reset or a double count.

use anyhow::Result;
use nix::sys::signal::Signal;
use sockmeter_tests::agent::{Agent, pin_dir};
use sockmeter_tests::client::{Step, chunked_server, play};
use sockmeter_tests::load::load;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::tally::Tally;

use crate::equal_books::agrees;

fn posts(repeat: usize) -> Vec<Vec<Step>> {
    let step = Step { method: "POST", target: "/jobs".to_owned(), body: 512, repeat, ..Step::default() };
    vec![vec![step]; 4]
}

#[test]
fn counters_go_on_when_the_agent_is_killed_and_started_again() -> Result<()> {
    let namespace = Namespace::new()?;
    let pins = pin_dir();
    let _server = chunked_server(&namespace, 8080)?;
    let mut clients = Tally::default();
    let mut play_and_tally = || -> Result<()> {
        for count in play(&namespace, "127.0.0.1", 8080, &posts(load(250)))? {
            count.tally(&mut clients, "/jobs");
        }
        Ok(())
    };
    let mut agent = Agent::start_pinned(&namespace, &[], pins.clone())?;
    play_and_tally()?;
    agent.scrape()?;
    play_and_tally()?;
    agent.process().signal(Signal::SIGKILL)?;
    agent.process().wait()?;
    play_and_tally()?;
    // The old one must not clean up behind itself: its pins are what the new one goes on with.
    std::mem::forget(agent);
    let agent = Agent::start_pinned(&namespace, &[], pins)?;
    play_and_tally()?;
    agrees(|| agent.scrape(), &clients)
}
