//! The books: every posting is added to one cell and one ledger, and what changed is kept batch by batch.

use std::collections::HashMap;

use sockmeter_ebpf::layout::SERVICES;
use sockmeter_ebpf::layout::books::BATCH_RECORDS;
use sockmeter_ebpf::posting::Posting;

use super::batch::{self, Record};
use super::cell::{self, Cell, MOST_SIZE_BOUNDS};
use super::ledger::Ledger;
use super::store::Store;
use super::told;
use crate::attribution;
use crate::route::{Endpoint, EndpointCap, OTHER, Routes};
use crate::snapshot::{Booking, Mark};

/// Cells that are kept back for what is folded when the store is nearly full: all statuses of the usual methods.
const MOST_FOLDED: u32 = 64;
/// Records that one posting changes at most: two cells and a ledger.
const MOST_CHANGED: usize = 3;

/// What is configured for a service.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    /// Name.
    pub name: String,
    /// Declared routes.
    pub routes: Routes,
    /// Bounds of its size histograms, ascending, at most `MOST_SIZE_BOUNDS`.
    pub size_bounds: Vec<u64>,
    /// Most distinct endpoints.
    pub endpoint_limit: usize,
}

/// One service.
#[derive(Debug)]
pub struct ServiceBook {
    /// Its number in the kernel.
    pub number: u16,
    /// What is configured for it; `None` if it was observed in an earlier run only.
    pub settings: Option<ServiceSettings>,
    /// Its ledger.
    pub ledger: Ledger,
    cap: EndpointCap,
    by_name: HashMap<(Endpoint, &'static str, u16), u32>,
}

impl ServiceBook {
    /// Exchanges whose endpoint went to `other`.
    #[must_use]
    pub fn folded(&self) -> u64 {
        self.cap.folded()
    }

    /// Bounds of the size histograms.
    #[must_use]
    pub fn size_bounds(&self) -> &[u64] {
        self.settings.as_ref().map_or(&[], |settings| &settings.size_bounds)
    }
}

/// All services' books.
#[derive(Debug)]
pub struct Books<S> {
    store: S,
    services: Vec<ServiceBook>,
    cells: Vec<Cell>,
    /// How far the journal was read when the books were last kept.
    read: Mark,
    /// What changed since then: ids of cells, numbers of services.
    changed_cells: Vec<u32>,
    changed_ledgers: Vec<u16>,
    no_routes: Routes,
    /// Cells of what exchanges say about the scheduler, by service and name.
    told: HashMap<(u16, Endpoint), u32>,
    /// Whether that is counted.
    derives: bool,
    /// Postings of services that are not known, and writes that were refused: both never happen unless something is
    /// badly wrong, and are then said.
    refused: u64,
    /// Exchanges whose series had to be another one because the store is nearly full.
    folded: u64,
}

impl<S: Store> Books<S> {
    /// Opens the books that `store` kept and gives every configured service its number: the one it had, or a free one.
    ///
    /// # Errors
    /// When there are more services than numbers, or the store refuses.
    pub fn open(store: S, configured: Vec<ServiceSettings>) -> Result<Self, super::StoreError> {
        let mut books = Self {
            store,
            services: Vec::new(),
            cells: Vec::new(),
            read: Mark::default(),
            changed_cells: Vec::with_capacity(BATCH_RECORDS),
            changed_ledgers: Vec::with_capacity(BATCH_RECORDS),
            no_routes: Routes::default(),
            told: HashMap::new(),
            derives: false,
            refused: 0,
            folded: 0,
        };
        books.read = batch::finish(&mut books.store)?;
        for (id, bytes) in books.store.ledgers() {
            if let (Some(ledger), Ok(number)) = (Ledger::from_bytes(&bytes), u16::try_from(id)) {
                books.add_service(number, ledger);
            }
        }
        let mut kept = books.store.cells();
        kept.sort_by_key(|(id, _)| *id);
        for (id, bytes) in kept {
            let Some(cell) = Cell::from_bytes(&bytes) else {
                books.refused += 1;
                continue;
            };
            // Numbers are given in order and never taken back, so there are no holes.
            if usize::try_from(id).is_ok_and(|id| id == books.cells.len()) {
                books.take(id, cell);
            } else {
                books.refused += 1;
            }
        }
        // Only now: what was ever given a name keeps it, also where the limit is lower today.
        books.configure(configured)?;
        Ok(books)
    }

    fn add_service(&mut self, number: u16, ledger: Ledger) {
        self.services.push(ServiceBook {
            number,
            settings: None,
            ledger,
            cap: EndpointCap::new(usize::MAX),
            by_name: HashMap::new(),
        });
    }

    /// Takes a new configuration: services that are not in it keep their totals.
    ///
    /// # Errors
    /// When there are more services than numbers, or the store refuses.
    pub fn configure(&mut self, configured: Vec<ServiceSettings>) -> Result<(), super::StoreError> {
        for service in &mut self.services {
            service.settings = None;
        }
        for settings in configured {
            let place = self.services.iter().position(|service| service.ledger.service == settings.name);
            let place = if let Some(place) = place {
                place
            } else {
                let free = (0..SERVICES)
                    .filter_map(|number| u16::try_from(number).ok())
                    .find(|number| self.services.iter().all(|service| service.number != *number));
                let number = free.ok_or_else(|| {
                    super::StoreError(format!("more than {SERVICES} services were observed since the start"))
                })?;
                self.add_service(number, Ledger { service: settings.name.clone(), ..Ledger::default() });
                self.services.len() - 1
            };
            let Some(service) = self.services.get_mut(place) else {
                continue;
            };
            let bounds = fingerprint(&settings.size_bounds);
            if service.ledger.bounds != bounds {
                service.ledger.bounds = bounds;
                for (id, cell) in (0..).zip(&mut self.cells).filter(|(_, cell)| cell.service == service.number) {
                    cell.forget_sizes(settings.size_bounds.len());
                    change(&mut self.changed_cells, id);
                }
            }
            let names: Vec<String> = service.cap.names().map(str::to_owned).collect();
            service.cap = EndpointCap::restore(settings.endpoint_limit, names.iter().map(String::as_str));
            service.settings = Some(settings);
            change(&mut self.changed_ledgers, service.number);
        }
        self.keep(self.read)
    }

    /// How far the journal was read when the books were last kept.
    #[must_use]
    pub fn read(&self) -> Mark {
        self.read
    }

    /// Keeps what changed. One batch holds all that postings change between two commits; a new configuration may change
    /// more, and says the same again if it is cut off: the ledgers, which know it, come last.
    fn keep(&mut self, read: Mark) -> Result<(), super::StoreError> {
        while !self.changed_cells.is_empty() || !self.changed_ledgers.is_empty() {
            let cells = self.changed_cells.len().min(BATCH_RECORDS);
            let ledgers = self.changed_ledgers.len().min(BATCH_RECORDS - cells);
            let mut records = Vec::with_capacity(cells + ledgers);
            for id in self.changed_cells.iter().take(cells) {
                let cell = usize::try_from(*id).ok().and_then(|id| self.cells.get(id));
                records.extend(cell.map(|cell| Record::Cell(*id, cell.to_bytes())));
            }
            for number in self.changed_ledgers.iter().take(ledgers) {
                let service = self.services.iter().find(|service| service.number == *number);
                records.extend(service.map(|of| Record::Ledger(u32::from(*number), of.ledger.to_bytes())));
            }
            batch::keep(&mut self.store, read, &records)?;
            self.changed_cells.drain(..cells);
            self.changed_ledgers.drain(..ledgers);
        }
        self.read = read;
        Ok(())
    }

    /// Whether what exchanges say about the scheduler is counted.
    #[must_use]
    pub fn derives(&self) -> bool {
        self.derives
    }

    /// Counts, or does not any more, what exchanges say about the scheduler.
    pub fn derive(&mut self, derives: bool) {
        self.derives = derives;
    }

    fn take(&mut self, id: u32, cell: Cell) {
        if told::is_told(&cell) {
            self.told.insert((cell.service, cell.endpoint.clone()), id);
        } else if let Some(service) = self.services.iter_mut().find(|service| service.number == cell.service) {
            let endpoint = service.cap.admit(&cell.endpoint);
            service.by_name.insert((endpoint, cell.method, cell.status), id);
        }
        self.cells.push(cell);
    }

    /// A service's name, and its routes; `None` for a number that was not given out.
    #[must_use]
    pub fn routes(&self, number: u16) -> Option<(&str, &Routes)> {
        let service = self.services.iter().find(|service| service.number == number)?;
        let routes = service.settings.as_ref().map_or(&self.no_routes, |settings| &settings.routes);
        Some((&service.ledger.service, routes))
    }

    /// Books what an exchange says about the scheduler. Not what it carried, which is in the endpoint's cell.
    fn book_told(&mut self, posting: &Posting, head: &[u8]) {
        let Some(said) = attribution::told(posting, head) else {
            return;
        };
        let service = posting.service;
        let nodes = self.told.keys().filter(|(_, name)| told::is_node(name)).count();
        let name = told::name(&said, nodes, |name| self.told.contains_key(&(service, name.clone())));
        let key = (service, name.clone());
        let room = self.store.most_cells().saturating_sub(self.cells.len());
        if !self.told.contains_key(&key) && room <= usize::try_from(MOST_FOLDED + SERVICES).unwrap_or(usize::MAX) {
            self.folded += 1;
            return;
        }
        let id = *self.told.entry(key).or_insert_with(|| {
            self.cells.push(Cell::new(service, OTHER, name, 0));
            u32::try_from(self.cells.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(cell) = usize::try_from(id).ok().and_then(|id| self.cells.get_mut(id))
            && cell.count(cell::name(posting))
        {
            change(&mut self.changed_cells, id);
        }
    }

    /// Books a posting. Taking the last one twice changes nothing.
    fn add(&mut self, posting: &Posting, head: &[u8]) {
        if self.derives && self.services.iter().any(|service| service.number == posting.service) {
            self.book_told(posting, head);
        }
        let Some(service) = self.services.iter_mut().find(|service| service.number == posting.service) else {
            self.refused += 1;
            return;
        };
        let name = cell::name(posting);
        let routes = service.settings.as_ref().map_or(&self.no_routes, |settings| &settings.routes);
        if let Some(mut exchange) = attribution::exchange(posting, head, routes) {
            exchange.endpoint =
                if Cell::fits(&exchange.endpoint) { service.cap.admit(&exchange.endpoint) } else { Endpoint::OTHER };
            let mut key = (exchange.endpoint.clone(), exchange.method, exchange.status);
            let room = self.store.most_cells().saturating_sub(self.cells.len());
            // One more for every service: there must always be a cell to fall back on.
            let last = usize::try_from(SERVICES).unwrap_or(usize::MAX);
            if room <= last + usize::try_from(MOST_FOLDED).unwrap_or(usize::MAX) && !service.by_name.contains_key(&key)
            {
                self.folded += 1;
                key.0 = Endpoint::OTHER;
                if room <= last && !service.by_name.contains_key(&key) {
                    key = (Endpoint::OTHER, OTHER, 0);
                }
            }
            let id = *service.by_name.entry(key).or_insert_with_key(|(endpoint, method, status)| {
                self.cells.push(Cell::new(posting.service, method, endpoint.clone(), *status));
                u32::try_from(self.cells.len() - 1).unwrap_or(u32::MAX)
            });
            let bounds = service.settings.as_ref().map_or(&[][..], |settings| &settings.size_bounds);
            if let Some(cell) = usize::try_from(id).ok().and_then(|id| self.cells.get_mut(id))
                && cell.book(name, &exchange, bounds)
            {
                change(&mut self.changed_cells, id);
            }
        }
        if service.ledger.book(name, posting) {
            change(&mut self.changed_ledgers, service.number);
        }
    }

    /// The services, those of earlier runs included.
    pub fn services(&self) -> &[ServiceBook] {
        &self.services
    }

    /// The cells of all services.
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// Exchanges that were booked under `other` because there was no room for their own series.
    pub fn folded(&self) -> u64 {
        self.folded
    }

    /// Postings and writes that were refused.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

impl<S: Store> Booking for Books<S> {
    fn book(&mut self, posting: &Posting, head: &[u8]) -> bool {
        self.add(posting, head);
        self.changed_cells.len() + self.changed_ledgers.len() + MOST_CHANGED > BATCH_RECORDS
    }

    fn commit(&mut self, read: Mark) {
        // What was refused goes with the next one.
        if self.keep(read).is_err() {
            self.refused += 1;
        }
    }
}

/// Notes that a record has changed.
fn change<T: PartialEq>(changed: &mut Vec<T>, which: T) {
    if !changed.contains(&which) {
        changed.push(which);
    }
}

/// Tells one list of bounds from another.
fn fingerprint(bounds: &[u64]) -> u64 {
    bounds.iter().take(MOST_SIZE_BOUNDS).fold(0xcbf2_9ce4_8422_2325, |hash, bound| {
        bound
            .to_le_bytes()
            .iter()
            .fold(hash, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
    })
}

#[cfg(test)]
mod tests;
