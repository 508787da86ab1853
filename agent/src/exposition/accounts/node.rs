//! The families of the host as a worker node. How it is read is the rim's matter (`node`).

use crate::exposition::{Family, Number, Page, catalog};
use crate::snapshot::{Gpu, Node};

/// A value of a device, if it measures that.
type Column = fn(&Gpu) -> Option<Number>;

/// Writes them; `load` is in percent. What was not read is absent.
pub fn write_node(node: &Node, load: Option<f64>, page: &mut Page) {
    let name = node.name.as_str();
    let values: [(&Family, Option<Number>); 5] = [
        (&catalog::WORKER_CPU, load.map(Into::into)),
        (&catalog::WORKER_MEMORY, node.memory_used.map(Into::into)),
        (&catalog::WORKER_UPTIME, node.uptime.map(Into::into)),
        (&catalog::WORKER_JOBS, node.jobs.map(Into::into)),
        (&catalog::WORKER_HAS_GPU, Some(u64::from(!node.gpus.is_empty()).into())),
    ];
    for (family, value) in values {
        if let Some(value) = value {
            page.family(family, "", |samples| samples.gauge(&[name], value));
        }
    }
    let columns: [(&Family, Column); 3] = [
        (&catalog::WORKER_GPU_USAGE, |gpu| gpu.usage.map(Into::into)),
        (&catalog::WORKER_TEMPERATURE, |gpu| gpu.celsius.map(Into::into)),
        (&catalog::WORKER_POWER, |gpu| gpu.watts.map(Into::into)),
    ];
    for (family, column) in columns {
        page.family(family, "", |samples| {
            for (model, gpu) in labelled(&node.gpus) {
                if let Some(value) = column(gpu) {
                    samples.gauge(&[name, &model], value);
                }
            }
        });
    }
}

/// Several devices of one model are told apart by a number.
fn labelled(gpus: &[Gpu]) -> impl Iterator<Item = (String, &Gpu)> {
    gpus.iter().enumerate().map(|(place, gpu)| {
        let before = gpus.iter().take(place).filter(|other| other.model == gpu.model).count();
        let label = if before == 0 { gpu.model.clone() } else { format!("{} #{}", gpu.model, before + 1) };
        (label, gpu)
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::exposition::Format;

    fn page(node: &Node, load: Option<f64>) -> Vec<String> {
        let mut page = Page::new(Format::Text);
        write_node(node, load, &mut page);
        let text = String::from_utf8(page.finish()).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn what_was_not_read_is_absent_and_no_device_is_a_zero() {
        let node = Node { name: "a\"b\n".to_owned(), ..Node::default() };
        assert_eq!(page(&node, None), [r#"ffrtmp_worker_has_gpu{node_id="a\"b\n"} 0"#]);
    }

    #[test]
    fn devices_of_one_model_are_told_apart() {
        let gpu = Gpu { model: "X".to_owned(), usage: Some(40), celsius: None, watts: Some(75.5) };
        let node = Node {
            name: "n".to_owned(),
            memory_used: Some(7),
            uptime: Some(1.5),
            jobs: Some(2),
            gpus: vec![gpu.clone(), gpu],
            ..Node::default()
        };
        let wanted = [
            r#"ffrtmp_worker_active_jobs{node_id="n"} 2"#,
            r#"ffrtmp_worker_cpu_usage{node_id="n"} 12.5"#,
            r#"ffrtmp_worker_gpu_usage{node_id="n",gpu_model="X"} 40"#,
            r#"ffrtmp_worker_gpu_usage{node_id="n",gpu_model="X #2"} 40"#,
            r#"ffrtmp_worker_has_gpu{node_id="n"} 1"#,
            r#"ffrtmp_worker_memory_bytes{node_id="n"} 7"#,
            r#"ffrtmp_worker_power_watts{node_id="n",gpu_model="X"} 75.5"#,
            r#"ffrtmp_worker_power_watts{node_id="n",gpu_model="X #2"} 75.5"#,
            r#"ffrtmp_worker_uptime_seconds{node_id="n"} 1.5"#,
        ];
        let mut found = page(&node, Some(12.5));
        found.sort();
        let mut wanted: Vec<String> = wanted.into_iter().map(str::to_owned).collect();
        wanted.sort();
        assert_eq!(found, wanted);
    }
}
