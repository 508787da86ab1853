//! The families of a node of a distributed LLM that the host tells. How it is read is the rim's matter (`node`).

use crate::exposition::{Family, Number, Page, catalog};
use crate::snapshot::LlmNode;

/// Writes them; `load` is in percent. What was not read is absent.
pub fn write_llm_node(node: &LlmNode, load: Option<f64>, page: &mut Page) {
    let values: [(&Family, &[&str], Option<Number>); 8] = [
        (&catalog::LLM_STATUS, &[], node.listens.map(|listens| u64::from(listens).into())),
        (&catalog::LLM_UPTIME, &[], node.uptime.map(Into::into)),
        (&catalog::LLM_RESOURCES, &["cpu_cores"], node.cores.map(Into::into)),
        (&catalog::LLM_RESOURCES, &["memory_mb"], node.memory_megabytes.map(Into::into)),
        (&catalog::LLM_CONNECTIONS, &[], node.connections.map(Into::into)),
        (&catalog::LLM_MEMORY, &["used"], node.memory_used.map(Into::into)),
        (&catalog::LLM_MEMORY, &["available"], node.memory_available.map(Into::into)),
        (&catalog::LLM_CPU, &[], load.map(Into::into)),
    ];
    for family in catalog::OF_LLM_NODE {
        page.family(family, "", |samples| {
            for (_, labels, value) in values.iter().filter(|(of, ..)| of.name == family.name) {
                if let Some(value) = value {
                    samples.gauge(labels, *value);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::exposition::Format;

    fn page(node: &LlmNode, load: Option<f64>) -> Vec<String> {
        let mut page = Page::new(Format::Text);
        write_llm_node(node, load, &mut page);
        let text = String::from_utf8(page.finish()).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn what_was_read_is_there_and_nothing_else() {
        assert_eq!(page(&LlmNode::default(), None), [""; 0]);
        let node = LlmNode {
            listens: Some(false),
            connections: Some(0),
            uptime: Some(1.5),
            cores: Some(16),
            memory_megabytes: Some(65_536),
            memory_used: Some(7),
            memory_available: Some(8),
        };
        let mut found = page(&node, Some(12.5));
        found.sort();
        let wanted = [
            "distributed_llm_network_connections 0",
            "distributed_llm_node_resources{resource_type=\"cpu_cores\"} 16",
            "distributed_llm_node_resources{resource_type=\"memory_mb\"} 65536",
            "distributed_llm_node_status 0",
            "distributed_llm_node_uptime_seconds 1.5",
            "distributed_llm_system_cpu_usage_percent 12.5",
            "distributed_llm_system_memory_usage_bytes{type=\"available\"} 8",
            "distributed_llm_system_memory_usage_bytes{type=\"used\"} 7",
        ];
        assert_eq!(found, wanted);
    }
}
