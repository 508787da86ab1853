//! NVIDIA devices, by the driver's own library, which is looked for when the agent starts and is no part of it.

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;

use crate::snapshot::Gpu;

/// The library, where there is one.
#[derive(Debug, Default)]
pub struct Gpus(Option<Nvml>);

impl Gpus {
    /// Looks for it. A host without it has no such devices, which is no error.
    #[must_use]
    pub fn look() -> Self {
        Self(Nvml::init().inspect_err(|error| tracing::debug!(%error, "no NVIDIA devices are read")).ok())
    }

    /// The devices; what one does not measure is `None`.
    pub(super) fn read(&self) -> Vec<Gpu> {
        let Some(nvml) = &self.0 else {
            return Vec::new();
        };
        let devices = (0..nvml.device_count().unwrap_or(0)).filter_map(|index| nvml.device_by_index(index).ok());
        let read = |device: nvml_wrapper::Device<'_>| Gpu {
            model: device.name().unwrap_or_else(|_| "unknown".to_owned()),
            usage: device.utilization_rates().ok().map(|rates| u64::from(rates.gpu)),
            celsius: device.temperature(TemperatureSensor::Gpu).ok().map(u64::from),
            watts: device.power_usage().ok().map(|milliwatts| f64::from(milliwatts) / 1e3),
        };
        devices.map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compared with the driver's own program, where there is one.
    #[test]
    fn the_devices_are_those_that_the_driver_lists() {
        let query = ["--query-gpu=name", "--format=csv,noheader"];
        let listed = std::process::Command::new("nvidia-smi").args(query).output();
        let listed = listed.ok().filter(|listed| listed.status.success());
        let wanted: Vec<String> = listed.map_or_else(Vec::new, |listed| {
            String::from_utf8_lossy(&listed.stdout).lines().map(|line| line.trim().to_owned()).collect()
        });
        let found = Gpus::look().read();
        println!("{found:?}");
        assert_eq!(found.into_iter().map(|gpu| gpu.model).collect::<Vec<_>>(), wanted);
    }
}
