//! Real programs in this kernel, real services, real traffic in namespaces of the tests' own. Needs root.
//!
//! Each subject is a module; each compares with `==` against books that somebody else kept.
#![forbid(unsafe_code)]
#![expect(clippy::float_cmp, reason = "counters are whole numbers, and their equality is the point")]
#![expect(clippy::tests_outside_test_module, reason = "this is a test target")]

/// A stopped agent, and a journal that is full.
mod asleep;
/// The exporter's port under attack.
mod attacked;
/// Bad input: one sentence, a hint, the designed exit code, nothing left attached.
mod bad_input;
/// Packets that are dropped, and packets that come twice.
mod bad_network;
/// Long answers while they are sent.
mod bodies;
/// Chunked and close-delimited answers of another server.
mod chunked_answers;
/// The clock that is set back.
mod clock;
/// What the kernel programs say of themselves, when asked.
mod diagnostics;
/// Queries of the documentation.
mod documented;
/// Half closes and resets.
mod ends;
/// nginx' log and the clients' own counts against our exchanges.
mod equal_books;
/// What many of these compare with.
mod exact;
/// IPv6 extension headers.
mod extension_headers;
/// Maps that are too small: detail is given up, bytes never.
mod full;
/// Sockets that another process serves than the one that made them.
mod handed_over;
/// Payload that comes with the handshake.
mod handshakes;
/// Interface counters against the kernel's own.
mod interfaces;
/// Jobs that only their processes tell.
mod job_rules;
/// Bytes by job, container and process.
mod jobs;
/// The ends of connections, where the kernel leaves programs out.
mod left_out;
/// Pods whose jobs a list tells, which may come late.
mod listed_pods;
/// The table of live sockets.
mod live_sockets;
/// Packets that are lost, repeated and reordered.
mod lossy_path;
/// Our page with a real exporter's, in a real Prometheus; and with a broken one's.
mod merged_page;
/// Dashboards and rules in real back-ends, over a real load.
mod monitoring;
/// Interfaces that come, go, and change.
mod moving_interfaces;
/// Services that come, go, and are started again.
mod moving_services;
/// The host as a worker node.
mod node;
/// What is not HTTP, half of it, or something else later.
mod not_http;
/// The numbers that the old in-process middleware gave, to the letter.
mod old_numbers;
/// Connections that are older than the agent.
mod older;
/// A lossy path, and WireGuard in the kernel: where the kernel has them.
mod only_in_guests;
/// Whose a socket is.
mod owners;
/// The image and the Kubernetes manifests, run as they are.
mod pods;
/// What the agent may do once it runs, and how little it takes to start it.
mod privileges;
/// Killed, stopped, started again: the books go on.
mod restart;
/// What is found out without locks and without entering namespaces, while it changes.
mod scans;
/// The scheduler's state by way of its API, against the scheduler's own.
mod scheduler_state;
/// Network namespaces other than the agent's own.
mod scope;
/// All ways to send.
mod sending;
/// Socket counters against what both ends counted.
mod sockets;
/// 100,000 connections that live for one exchange.
mod storm;
/// Lists of pods that are switched on, off and over, and that contradict themselves.
mod switched_lists;
/// A kernel that is too old.
mod too_old;
/// Scrapes in the middle of a load.
mod under_load;
/// The systemd unit, started by systemd.
mod units;
/// Another build takes over what is pinned.
mod upgrade;
/// Whose an accepted connection is that one process after the other uses.
mod users;
/// How much the verifier has to do.
mod verifier;
/// Scrapes that are held against each other.
mod watch;
/// WireGuard's own counters of its peers.
mod wireguard;
/// No program for packets.
mod without_packets;
/// Streams longer than sequence numbers reach.
mod wraps;
