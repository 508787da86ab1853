//! The one list of our metric families. Reference page, dashboards check and tests are derived from it.
//!
//! Not here: families merged from another exporter (`upstream`).

use super::family::{Family, Kind};

/// Makes a constant of each row, and of all of them together the list [`ALL`].
macro_rules! families {
    ($($constant:ident $kind:ident $name:literal $unit:literal [$($label:literal)*] $help:literal)+) => {
        $(
            #[doc = concat!("`", $name, "`: ", $help)]
            pub static $constant: Family =
                Family { name: $name, kind: Kind::$kind, unit: $unit, labels: &[$($label),*], help: $help };
        )+
        /// Every family, in the order of the contract.
        pub static ALL: &[&Family] = &[$(&$constant),+];
    };
}

/// Those that are ours only while the scheduler's API is asked: else its own exporter may have the names.
pub static DERIVED: [&Family; 14] = [
    &JOBS,
    &ACTIVE_JOBS,
    &QUEUE_LENGTH,
    &NODES,
    &NODES_BY_STATUS,
    &QUEUE_BY_PRIORITY,
    &QUEUE_BY_TYPE,
    &JOBS_BY_ENGINE,
    &JOB_DURATION,
    &JOB_WAIT,
    &JOB_RUN,
    &JOB_QUEUE,
    &SCHEDULE_ATTEMPTS,
    &HEARTBEATS,
];

/// Those that are ours only while a service is a node of a distributed LLM: else its own exporter may have the names.
pub static OF_LLM_NODE: [&Family; 6] =
    [&LLM_STATUS, &LLM_UPTIME, &LLM_RESOURCES, &LLM_CONNECTIONS, &LLM_MEMORY, &LLM_CPU];

families! {
    // HTTP of an observed service.

    REQUEST_BYTES Counter "{service}_http_request_bytes_total" "bytes" ["endpoint" "method"]
        "Request body bytes that crossed the stream, without head and without chunk framing."
    RESPONSE_BYTES Counter "{service}_http_response_bytes_total" "bytes" ["endpoint" "method" "status"]
        "Response body bytes that crossed the stream, without head and without chunk framing."
    REQUEST_SIZE Histogram "{service}_http_request_size_bytes" "bytes" ["endpoint" "method"]
        "Body bytes of each request that has a body, without chunk framing."
    RESPONSE_SIZE Histogram "{service}_http_response_size_bytes" "bytes" ["endpoint" "method" "status"]
        "Body bytes of each response that has a body, without chunk framing."
    BANDWIDTH_TOTAL Counter "{service}_http_bandwidth_bytes_total" "bytes" ["direction"]
        "Body bytes of all requests (inbound) or of all responses (outbound)."
    REQUESTS Counter "{service}_http_requests_total" "" []
        "Complete request heads, with or without a body."
    REQUEST_SIZE_AVG Gauge "{service}_http_request_size_bytes_avg" "bytes" []
        "Request body bytes divided by all requests, those without a body too."
    RESPONSE_SIZE_AVG Gauge "{service}_http_response_size_bytes_avg" "bytes" []
        "Response body bytes divided by all requests, those without a body too."
    BANDWIDTH Gauge "{service}_bandwidth_bytes_per_second" "bytes_per_second" ["direction"]
        "Bytes per second of the service's TCP streams (every application byte), over the last 10 seconds."
    EXCHANGES Counter "{service}_http_exchanges_total" "" ["endpoint" "method" "status"]
        "Completed exchanges, those without any body too; status is none if no final status came."
    WIRE_BYTES Counter "{service}_http_wire_bytes_total" "bytes" ["endpoint" "method" "direction"]
        "Every application byte of the exchanges in the TCP stream: first line, header fields, framing, body, interim answers; for TLS the plaintext."
    EXCHANGE_DURATION Histogram "{service}_http_exchange_duration_seconds" "seconds" ["endpoint" "method" "status"]
        "Time from the first byte of the request to the last byte of the exchange."
    UNATTRIBUTED_BYTES Counter "{service}_http_unattributed_bytes_total" "bytes" ["direction" "reason"]
        "TCP stream bytes of the service's sockets that belong to no exchange, by the reason why."
    STREAM_BYTES Counter "sockmeter_service_stream_bytes_total" "bytes" ["service" "direction"]
        "Application bytes of all TCP streams of the service, counted apart from the exchanges; no SYN, no FIN, no retransmission."
    OPEN_BYTES Gauge "sockmeter_service_open_bytes" "bytes" ["service" "direction"]
        "TCP stream bytes of exchanges or heads that are not finished yet."
    IMBALANCE_BYTES Gauge "sockmeter_ledger_imbalance_bytes" "bytes" ["service" "direction"]
        "TCP stream bytes less wire, unattributed and open bytes; 0 when the books balance."
    ENDPOINTS_FOLDED Counter "sockmeter_service_endpoints_folded_total" "" ["service"]
        "Exchanges booked under the endpoint other because the service has as many endpoints as it may."

    // Sockets.

    SOCKET_RECEIVE_BYTES Counter "sockmeter_socket_receive_bytes_total" "bytes" ["protocol" "role" "port" "process"]
        "Application bytes received: TCP the in-order stream without SYN and FIN, UDP the payload before a full buffer could drop it."
    SOCKET_TRANSMIT_BYTES Counter "sockmeter_socket_transmit_bytes_total" "bytes" ["protocol" "role" "port" "process"]
        "Application bytes sent: TCP the highest stream position without SYN, FIN and retransmissions, UDP the payload."
    SOCKET_RETRANSMIT_BYTES Counter "sockmeter_socket_retransmit_bytes_total" "bytes" ["protocol" "role" "port" "process"]
        "TCP stream bytes sent again; they are not in the transmit bytes."
    SOCKETS Gauge "sockmeter_sockets" "" ["protocol" "role" "state"]
        "Live sockets by the kernel's name of their state."
    SOCKETS_OPENED Counter "sockmeter_sockets_opened_total" "" ["protocol" "role"]
        "Sockets that were opened."
    SOCKETS_CLOSED Counter "sockmeter_sockets_closed_total" "" ["protocol" "role"]
        "Sockets that were closed."
    ROUND_TRIP Histogram "sockmeter_tcp_round_trip_seconds" "seconds" ["role" "port"]
        "The kernel's smoothed round trip time of a TCP socket when it closed."

    // Interfaces.

    INTERFACE_RECEIVE_BYTES Counter "sockmeter_interface_receive_bytes_total" "bytes" ["interface" "netns" "family"]
        "Bytes received on the device as the kernel program saw them: layer 2 where the device has a link header, else layer 3."
    INTERFACE_TRANSMIT_BYTES Counter "sockmeter_interface_transmit_bytes_total" "bytes" ["interface" "netns" "family"]
        "Bytes sent on the device as the kernel program saw them: layer 2 where the device has a link header, else layer 3."
    INTERFACE_RECEIVE_PACKETS Counter "sockmeter_interface_receive_packets_total" "packets" ["interface" "netns" "family"]
        "Packets received on the device, as they go on the wire (segments of a merged packet counted singly)."
    INTERFACE_TRANSMIT_PACKETS Counter "sockmeter_interface_transmit_packets_total" "packets" ["interface" "netns" "family"]
        "Packets sent on the device, as they go on the wire (segments of a large packet counted singly)."
    INTERFACE_KERNEL_BYTES Counter "sockmeter_interface_kernel_bytes_total" "bytes" ["interface" "netns" "direction"]
        "The kernel's own byte counter of the device at the same moment; on WireGuard these are encrypted messages."

    // WireGuard.

    PEER_RECEIVE_BYTES Counter "sockmeter_wireguard_peer_receive_bytes_total" "bytes" ["interface" "netns" "public_key" "peer"]
        "Bytes of WireGuard messages received from the peer, as WireGuard itself counts them; 0 again when the interface, or the peer on it, is made anew."
    PEER_TRANSMIT_BYTES Counter "sockmeter_wireguard_peer_transmit_bytes_total" "bytes" ["interface" "netns" "public_key" "peer"]
        "Bytes of WireGuard messages sent to the peer, as WireGuard itself counts them; 0 again when the interface, or the peer on it, is made anew."
    PEER_LAST_HANDSHAKE Gauge "sockmeter_wireguard_peer_last_handshake_timestamp_seconds" "seconds" ["interface" "netns" "public_key" "peer"]
        "Unix time of the last handshake with the peer; 0 if there never was one."
    PEERS Gauge "sockmeter_wireguard_peers" "" ["interface" "netns" "state"]
        "Peers that are active (handshake younger than 180 seconds), idle, or never had a handshake."

    // Jobs and containers.

    JOB_RECEIVE_BYTES Counter "sockmeter_job_receive_bytes_total" "bytes" ["job"]
        "Application bytes received by all sockets that the job owns."
    JOB_TRANSMIT_BYTES Counter "sockmeter_job_transmit_bytes_total" "bytes" ["job"]
        "Application bytes sent by all sockets that the job owns, without retransmissions."
    NO_JOB_RECEIVE_BYTES Counter "sockmeter_no_job_receive_bytes_total" "bytes" []
        "Application bytes received by all sockets that no job owns: with those of all jobs the bytes of all sockets."
    NO_JOB_TRANSMIT_BYTES Counter "sockmeter_no_job_transmit_bytes_total" "bytes" []
        "Application bytes sent by all sockets that no job owns, without retransmissions."
    CONTAINER_RECEIVE_BYTES Counter "sockmeter_container_receive_bytes_total" "bytes" ["container" "pod" "namespace" "unit"]
        "Application bytes received by all sockets of the container."
    CONTAINER_TRANSMIT_BYTES Counter "sockmeter_container_transmit_bytes_total" "bytes" ["container" "pod" "namespace" "unit"]
        "Application bytes sent by all sockets of the container, without retransmissions."

    // The scheduler's own state, from its API.

    JOBS Gauge "ffrtmp_jobs_total" "" ["state"]
        "Jobs on the scheduler's list by state; finished ones leave it after some days."
    ACTIVE_JOBS Gauge "ffrtmp_active_jobs" "" []
        "Jobs that are assigned, processing or running."
    QUEUE_LENGTH Gauge "ffrtmp_queue_length" "" []
        "Jobs that are pending, queued or retrying."
    NODES Gauge "ffrtmp_nodes_total" "" []
        "Nodes on the scheduler's list."
    NODES_BY_STATUS Gauge "ffrtmp_nodes_by_status" "" ["status"]
        "Nodes on the scheduler's list by status."
    QUEUE_BY_PRIORITY Gauge "ffrtmp_queue_by_priority" "" ["priority"]
        "Jobs that are pending, queued or retrying by priority; those without one are other."
    QUEUE_BY_TYPE Gauge "ffrtmp_queue_by_type" "" ["type"]
        "Jobs that are pending, queued or retrying by queue; those without one are other."
    JOBS_BY_ENGINE Gauge "ffrtmp_jobs_by_engine" "" ["engine"]
        "Jobs on the scheduler's list by engine; those without one are other."
    JOB_DURATION Gauge "ffrtmp_job_duration_seconds" "seconds" []
        "Mean time from start to end of the jobs on the scheduler's list that have ended."
    JOB_WAIT Gauge "ffrtmp_job_wait_time_seconds" "seconds" []
        "Mean time from submission to start of the jobs on the scheduler's list that have started."
    JOB_RUN Histogram "ffrtmp_job_run_seconds" "seconds" ["queue" "engine"]
        "Time from start to end of each job, observed once a job when it is first seen ended."
    JOB_QUEUE Histogram "ffrtmp_job_queue_seconds" "seconds" ["queue" "engine"]
        "Time from submission to start of each job, observed once a job when it is first seen started."
    SCHEDULE_ATTEMPTS Counter "ffrtmp_schedule_attempts_total" "" ["result"]
        "Exchanges GET /jobs/next of the observed services: success if a job was given, no_jobs if there was none, error otherwise; what is encrypted is not seen."
    HEARTBEATS Counter "ffrtmp_worker_heartbeats_total" "" ["node_id"]
        "Exchanges POST /nodes/{id}/heartbeat of the observed services that were answered with success, by node; what is encrypted is not seen."
    SCHEDULER_UP Gauge "sockmeter_scheduler_up" "" []
        "1 if the scheduler's API gave its lists of jobs and nodes when it was last asked, else 0."
    SCHEDULER_POLLS Counter "sockmeter_scheduler_polls_total" "" ["result"]
        "Times that the scheduler's API was asked for its lists, by whether they came whole."

    // The node it runs on.

    WORKER_CPU Gauge "ffrtmp_worker_cpu_usage" "" ["node_id"]
        "Percent of all CPUs of the host that was busy since the scrape before."
    WORKER_MEMORY Gauge "ffrtmp_worker_memory_bytes" "bytes" ["node_id"]
        "Bytes of the host's memory that are not available to new programs."
    WORKER_UPTIME Gauge "ffrtmp_worker_uptime_seconds" "seconds" ["node_id"]
        "Time since the host was started."
    WORKER_JOBS Gauge "ffrtmp_worker_active_jobs" "" ["node_id"]
        "Jobs that have a cgroup on the host."
    WORKER_HAS_GPU Gauge "ffrtmp_worker_has_gpu" "" ["node_id"]
        "1 if the host has an NVIDIA device and its driver, else 0."
    WORKER_GPU_USAGE Gauge "ffrtmp_worker_gpu_usage" "" ["node_id" "gpu_model"]
        "Percent of the time that something ran on the NVIDIA device, as its driver says."
    WORKER_TEMPERATURE Gauge "ffrtmp_worker_temperature_celsius" "celsius" ["node_id" "gpu_model"]
        "Temperature of the NVIDIA device."
    WORKER_POWER Gauge "ffrtmp_worker_power_watts" "watts" ["node_id" "gpu_model"]
        "Power that the NVIDIA device draws."

    // A node of a distributed LLM.

    LLM_STATUS Gauge "distributed_llm_node_status" "" []
        "1 if somebody listens on the node's ports in the agent's network namespace, 0 if nobody does and the node can be in no other."
    LLM_UPTIME Gauge "distributed_llm_node_uptime_seconds" "seconds" []
        "Time since the process was started that listens on the node's ports, the oldest if there are several."
    LLM_RESOURCES Gauge "distributed_llm_node_resources" "" ["resource_type"]
        "What the host has: CPUs (cpu_cores), and memory in units of 1,048,576 bytes (memory_mb)."
    LLM_CONNECTIONS Gauge "distributed_llm_network_connections" "" []
        "Established TCP connections to the node's ports."
    LLM_MEMORY Gauge "distributed_llm_system_memory_usage_bytes" "bytes" ["type"]
        "Bytes of the host's memory that are not available to new programs (used), and that are (available)."
    LLM_CPU Gauge "distributed_llm_system_cpu_usage_percent" "" []
        "Percent of all CPUs of the host that was busy since the scrape before."

    // The agent about itself.

    BUILD_INFO Gauge "sockmeter_build_info" "" ["version" "revision"]
        "Always 1; the labels say what is running."
    PROGRAM_ATTACHED Gauge "sockmeter_program_attached" "" ["program" "target"]
        "1 if the kernel program is attached there; 0 if not, and then what it measures is absent."
    PROGRAM_RUNS Counter "sockmeter_program_runs_total" "" ["program"]
        "Runs of the kernel program, where the kernel counts them."
    PROGRAM_RUN_SECONDS Counter "sockmeter_program_run_seconds_total" "seconds" ["program"]
        "Time that the kernel program ran, where the kernel measures it."
    LOST Counter "sockmeter_lost_total" "" ["reason"]
        "Records (not bytes) that were lost, by the reason why."
    MAP_ENTRIES Gauge "sockmeter_map_entries" "" ["map"]
        "Entries in use of the kernel map."
    MAP_CAPACITY Gauge "sockmeter_map_capacity" "" ["map"]
        "Entries that the kernel map can hold."
    SERIES Gauge "sockmeter_series" "" ["family"]
        "Series that the family had on this page."
    SCRAPE_DURATION Histogram "sockmeter_scrape_duration_seconds" "seconds" ["phase"]
        "Time that a phase of answering a scrape took."
    UPSTREAM_UP Gauge "sockmeter_upstream_up" "" ["upstream"]
        "1 if the merged exporter answered in time when this page was made, else 0."
    UPSTREAM_LEFT_OUT Counter "sockmeter_upstream_left_out_total" "" ["upstream" "reason"]
        "Lines of the merged exporter's page that were left out, by the reason why."
    PROCESS_CPU_SECONDS Counter "process_cpu_seconds_total" "seconds" []
        "User and system CPU time of the agent."
    PROCESS_OPEN_FDS Gauge "process_open_fds" "" []
        "Open file descriptors of the agent."
    PROCESS_MAX_FDS Gauge "process_max_fds" "" []
        "File descriptors that the agent may open."
    PROCESS_VIRTUAL_MEMORY Gauge "process_virtual_memory_bytes" "bytes" []
        "Bytes of address space that the agent has mapped."
    PROCESS_RESIDENT_MEMORY Gauge "process_resident_memory_bytes" "bytes" []
        "Bytes of physical memory that the agent holds."
    PROCESS_START_TIME Gauge "process_start_time_seconds" "seconds" []
        "Unix time at which the agent started."
    PROCESS_THREADS Gauge "process_threads" "" []
        "Threads of the agent."
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{ALL, Kind};

    #[test]
    fn no_sample_name_belongs_to_two_families() {
        let mut names = BTreeSet::new();
        for family in ALL {
            let base = family.name.strip_suffix("_total").unwrap_or(family.name);
            let suffixes: &[&str] = match family.kind {
                Kind::Counter => &["", "_total", "_created"],
                Kind::Gauge => &[""],
                Kind::Histogram => &["", "_bucket", "_sum", "_count", "_created"],
            };
            for suffix in suffixes {
                assert!(names.insert(format!("{base}{suffix}")), "{} {suffix}", family.name);
            }
        }
    }

    #[test]
    fn counters_end_in_total_and_only_they() {
        // Historical names, which dashboards stand on.
        let gauges = ["ffrtmp_jobs_total", "ffrtmp_nodes_total"];
        for family in ALL.iter().filter(|family| !gauges.contains(&family.name)) {
            assert_eq!(family.kind == Kind::Counter, family.name.ends_with("_total"), "{}", family.name);
        }
    }

    #[test]
    fn help_of_a_byte_family_says_bytes_and_all_are_one_sentence() {
        for family in ALL {
            assert!(family.unit != "bytes" || family.help.to_lowercase().contains("byte"), "{}", family.name);
            assert!(family.help.ends_with('.') && !family.help.contains(['\n', '"', '\\']), "{}", family.name);
        }
    }

    #[test]
    fn units_stand_in_the_names() {
        for family in ALL.iter().filter(|family| !family.unit.is_empty() && !family.name.ends_with("_avg")) {
            assert_eq!(family.unit_in_name(), Some(family.unit), "{}", family.name);
        }
    }
}
