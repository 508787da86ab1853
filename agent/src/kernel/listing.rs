//! The live sockets each by itself, and the records of the programs that tell of them. Which namespaces are passed over is `namespaces`'.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read as _};
use std::mem::offset_of;

use sockmeter_ebpf::http::head::REQUEST_HEAD;
use sockmeter_ebpf::listed::Listed;
use sockmeter_ebpf::place::{HIERARCHIES, Place, PlaceKey};
use sockmeter_ebpf::socket::Owner;

use super::{Kernel, namespaces};
use crate::snapshot::{Listing, ReadError};

/// The programs, in the order of `Protocol::ALL`.
const LISTS: [&str; 2] = ["list_tcp", "list_udp"];

/// Sockets that are kept of one listing; the others are counted.
const MOST: usize = 16_384;
const LISTED: usize = size_of::<Listed>();

impl Kernel {
    /// Every live socket in scope by itself, as it is now.
    ///
    /// # Errors
    /// When a read is refused.
    pub fn sockets(&mut self) -> Result<Listing, ReadError> {
        let mut listing = Listing::default();
        let links = self.links(LISTS)?;
        let mut take = |records| read(records, &mut listing);
        namespaces::here(links, &mut take)?;
        if self.all_namespaces {
            let others = namespaces::others(self.netns).into_iter();
            let passes: Result<_, ReadError> = others.map(|other| Ok((other, self.links(LISTS)?))).collect();
            let _unread = namespaces::there(passes?, &mut |_| true, &mut take)?;
        }
        let places: BTreeSet<PlaceKey> = listing.sockets.iter().map(|(listed, _)| listed.place.key).collect();
        listing.standings = places.into_iter().map(|key| (key, self.places.standing(key))).collect();
        Ok(listing)
    }
}

/// Takes all records of one iterator's file.
fn read(mut records: BufReader<File>, listing: &mut Listing) -> std::io::Result<()> {
    let mut bytes = [0; LISTED];
    loop {
        match records.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        let listed = listed(&bytes);
        let mut head = Vec::new();
        if listed.head_len != 0 {
            let mut kept = [0; REQUEST_HEAD];
            records.read_exact(&mut kept)?;
            head = kept.get(..usize::from(listed.head_len)).unwrap_or(&kept).to_vec();
        }
        if listing.sockets.len() < MOST {
            listing.sockets.push((listed, head));
        } else {
            listing.left_out += 1;
        }
    }
}

fn listed(bytes: &[u8; LISTED]) -> Listed {
    let place = offset_of!(Listed, place);
    let owner = offset_of!(Listed, owner);
    Listed {
        cookie: u64::from_le_bytes(at(bytes, offset_of!(Listed, cookie))),
        received: u64::from_le_bytes(at(bytes, offset_of!(Listed, received))),
        sent: u64::from_le_bytes(at(bytes, offset_of!(Listed, sent))),
        retransmitted: u64::from_le_bytes(at(bytes, offset_of!(Listed, retransmitted))),
        place: Place {
            key: PlaceKey { cgroups: key(bytes, place + offset_of!(Place, key)) },
            started: u64::from_le_bytes(at(bytes, place + offset_of!(Place, started))),
        },
        owner: Owner {
            process: at(bytes, owner + offset_of!(Owner, process)),
            pid: u32::from_le_bytes(at(bytes, owner + offset_of!(Owner, pid))),
            known: u32::from_le_bytes(at(bytes, owner + offset_of!(Owner, known))),
        },
        local: at(bytes, offset_of!(Listed, local)),
        remote: at(bytes, offset_of!(Listed, remote)),
        local_port: u16::from_le_bytes(at(bytes, offset_of!(Listed, local_port))),
        remote_port: u16::from_le_bytes(at(bytes, offset_of!(Listed, remote_port))),
        state: u8::from_le_bytes(at(bytes, offset_of!(Listed, state))),
        protocol: u8::from_le_bytes(at(bytes, offset_of!(Listed, protocol))),
        role: u8::from_le_bytes(at(bytes, offset_of!(Listed, role))),
        pad: 0,
        netns: u32::from_le_bytes(at(bytes, offset_of!(Listed, netns))),
        round_trip: u32::from_le_bytes(at(bytes, offset_of!(Listed, round_trip))),
        service: u16::from_le_bytes(at(bytes, offset_of!(Listed, service))),
        head_len: u16::from_le_bytes(at(bytes, offset_of!(Listed, head_len))),
        more_pad: 0,
    }
}

fn key(bytes: &[u8; LISTED], from: usize) -> [u64; HIERARCHIES] {
    std::array::from_fn(|i| u64::from_le_bytes(at(bytes, from + 8 * i)))
}

/// The bytes of a field.
fn at<const N: usize>(bytes: &[u8; LISTED], from: usize) -> [u8; N] {
    bytes.get(from..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_every_field() {
        // Each byte says where it lies.
        let bytes: [u8; LISTED] = std::array::from_fn(|i| u8::try_from(i).unwrap_or(0));
        let found = listed(&bytes);
        let byte = |at: usize| u8::try_from(at).unwrap_or(0);
        assert_eq!(found.cookie.to_le_bytes()[0], 0);
        assert_eq!(found.retransmitted.to_le_bytes()[0], 24);
        assert_eq!(found.place.key.cgroups.map(|id| id.to_le_bytes()[0]), [32, 40, 48, 56, 64]);
        assert_eq!(found.place.started.to_le_bytes()[0], 72);
        assert_eq!((found.owner.process[0], found.owner.pid.to_le_bytes()[0]), (80, 96));
        assert_eq!((found.local[0], found.remote[15], found.remote_port.to_le_bytes()[0]), (104, 135, 138));
        assert_eq!([found.state, found.protocol, found.role], [140, 141, 142].map(byte));
        assert_eq!((found.netns.to_le_bytes()[0], found.head_len.to_le_bytes()[0]), (144, 154));
    }
}
