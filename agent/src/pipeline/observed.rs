//! From the settings of the services to what books and kernel want to know of them.

use anyhow::Context as _;

use crate::config::{ConfigError, Service, Settings};
use crate::model::{Books, MOST_SIZE_BOUNDS, ServiceSettings, Store};
use crate::route::Routes;

/// What the books want to know; reads the files of routes.
///
/// # Errors
/// When a file of routes cannot be read or understood, or there are more size buckets than a cell has room for.
pub(super) fn services(settings: &Settings) -> Result<Vec<ServiceSettings>, ConfigError> {
    settings.services.iter().map(service).collect()
}

fn service(service: &Service) -> Result<ServiceSettings, ConfigError> {
    let routes = match &service.routes {
        None => Routes::default(),
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|error| {
                ConfigError::new(format!("routes of {}, {}: {error}", service.name, file.display()))
            })?;
            Routes::parse(&text).map_err(|error| ConfigError::new(format!("{}: {error}", file.display())))?
        }
    };
    if service.size_buckets.len() > MOST_SIZE_BOUNDS {
        let found = service.size_buckets.len();
        return Err(ConfigError::new(format!(
            "service.{}.size_buckets has {found} bounds, wanted at most {MOST_SIZE_BOUNDS}",
            service.name
        )));
    }
    Ok(ServiceSettings {
        name: service.name.clone(),
        routes,
        size_bounds: service.size_buckets.clone(),
        endpoint_limit: service.endpoint_limit,
    })
}

/// Which port is whose, by the numbers that the books gave out: `(port, number)`.
///
/// # Errors
/// When the books have no number for a service, which they give to every one that they were configured with.
pub(super) fn ports<S: Store>(settings: &Settings, books: &Books<S>) -> anyhow::Result<Vec<(u16, u16)>> {
    let mut ports = Vec::new();
    for service in &settings.services {
        let book = books.services().iter().find(|book| book.ledger.service == service.name);
        let number = book.with_context(|| format!("the books have no service {}", service.name))?.number;
        ports.extend(service.ports.iter().map(|port| (*port, number)));
    }
    Ok(ports)
}
