//! Asks the kernel's WireGuard, by its generic netlink family (`include/uapi/linux/wireguard.h`). It tells peers to who has
//! `CAP_NET_ADMIN` both when the socket is opened and when it asks (`netlink_ns_capable`, net/netlink/af_netlink.c).
//!
//! The packets are taken apart here, over the crate that knows attributes: a crate that makes values of all of them makes
//! some of the private key too.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use netlink_packet_core::{
    DefaultNla, Emitable as _, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NlasIterator,
};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use zeroize::Zeroizing;

use super::peers::Peers;
use crate::snapshot::{Peer, PublicKey};

/// The family that tells of families (`GENL_ID_CTRL`, `include/uapi/linux/genetlink.h`).
const CONTROL: u16 = 0x10;
/// `CTRL_CMD_GETFAMILY`, and of its answer `CTRL_ATTR_FAMILY_ID` and `CTRL_ATTR_FAMILY_NAME`.
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// WireGuard's (`WG_GENL_NAME`).
const NAME: &[u8] = b"wireguard\0";
/// `WG_CMD_GET_DEVICE`.
const GET_DEVICE: u8 = 0;
/// `WGDEVICE_A_*`.
const INTERFACE: u16 = 2;
const PEERS: u16 = 8;
/// `WGPEER_A_*`.
const KEY: u16 = 1;
const LAST_HANDSHAKE: u16 = 6;
const RECEIVED: u16 = 7;
const SENT: u16 = 8;

/// Bytes of a header, and of generic netlink's behind it.
const HEADER: usize = 16;
const GENERIC: usize = 4;
/// More than the kernel puts into one piece of a list (`netlink_dump`, net/netlink/af_netlink.c).
const PIECE: usize = 1 << 16;
/// How often a list is asked for that changes while it is told.
const TRIES: usize = 3;

/// A socket to ask by.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

impl Socket {
    /// Opens one that hears the kernel alone.
    pub(super) fn open(patience: Duration) -> io::Result<Self> {
        let socket =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkGeneric)?;
        let patience = i64::try_from(patience.as_millis()).map_err(io::Error::other)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(patience))?;
        connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self(socket))
    }

    /// Whether the family is there. Asking for it by name would load the module.
    pub(super) fn has_family(&self) -> io::Result<bool> {
        Ok(self.family()?.is_some())
    }

    /// The peers of an interface.
    pub(super) fn peers(&self, interface: &str, room: usize) -> io::Result<Peers> {
        let family = self.family()?.ok_or_else(|| io::Error::other("WireGuard is not in the kernel"))?;
        let name = [interface.as_bytes(), b"\0"].concat();
        for _ in 0..TRIES {
            let mut peers = Peers::with_room(room);
            let is_whole = self.list(family, GET_DEVICE, Some((INTERFACE, name.clone())), |attributes| {
                device(attributes, &mut peers)
            })?;
            if is_whole {
                return Ok(peers);
            }
        }
        Err(io::Error::other(format!("they changed while they were told, {TRIES} times")))
    }

    /// The number of WireGuard's family, if it is there.
    fn family(&self) -> io::Result<Option<u16>> {
        let mut found = None;
        self.list(CONTROL, GET_FAMILY, None, |attributes| {
            let (mut number, mut is_it) = (None, false);
            for attribute in NlasIterator::new(attributes) {
                let attribute = attribute.map_err(broken)?;
                match attribute.kind() {
                    FAMILY_ID => number = attribute.value().try_into().ok().map(u16::from_ne_bytes),
                    FAMILY_NAME => is_it = attribute.value() == NAME,
                    _ => {}
                }
            }
            found = found.or(number.filter(|_| is_it));
            Ok(())
        })?;
        Ok(found)
    }

    /// Asks for a list and hands on the attributes of each message. False if something changed meanwhile: then the list may
    /// lack something (`genl_dump_check_consistent`).
    fn list(
        &self,
        family: u16,
        command: u8,
        attribute: Option<(u16, Vec<u8>)>,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        let request = request(family, command, attribute)?;
        if send(self.0.as_raw_fd(), &request, MsgFlags::empty())? != request.len() {
            return Err(io::Error::other("the request did not fit"));
        }
        // Wiped when it goes: secrets pass through it.
        let mut buffer = Zeroizing::new(vec![0; PIECE]);
        let mut is_whole = true;
        loop {
            let count = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC)?;
            let fits = buffer.get(..count).filter(|_| count > 0);
            let mut rest = fits.ok_or_else(|| io::Error::other("a piece of the answer did not fit"))?;
            while !rest.is_empty() {
                let message = NetlinkBuffer::new_checked(rest).map_err(broken)?;
                is_whole &= message.flags() & NLM_F_DUMP_INTR == 0;
                match message.message_type() {
                    NLMSG_DONE => return Ok(is_whole),
                    NLMSG_ERROR => return Err(refusal(message.payload())),
                    _ => each(message.payload().get(GENERIC..).unwrap_or_default())?,
                }
                let length = usize::try_from(message.length()).map_err(io::Error::other)?;
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

/// A request for a list, with at most one attribute.
fn request(family: u16, command: u8, attribute: Option<(u16, Vec<u8>)>) -> io::Result<Vec<u8>> {
    let attributes: Vec<DefaultNla> = attribute.into_iter().map(|(kind, value)| DefaultNla::new(kind, value)).collect();
    let length = HEADER + GENERIC + attributes.as_slice().buffer_len();
    let mut request = vec![0; length];
    let mut message = NetlinkBuffer::new(&mut request);
    message.set_length(u32::try_from(length).map_err(io::Error::other)?);
    message.set_message_type(family);
    message.set_flags(NLM_F_REQUEST | NLM_F_DUMP);
    let payload = message.payload_mut();
    // `struct genlmsghdr`: command, version, two bytes of nothing. Both families are of version 1 or do not look.
    if let Some((header, behind)) = payload.split_at_mut_checked(GENERIC) {
        header.copy_from_slice(&[command, 1, 0, 0]);
        attributes.as_slice().emit(behind);
    }
    Ok(request)
}

/// `struct nlmsgerr`: the negative number of the error comes first.
fn refusal(payload: &[u8]) -> io::Error {
    let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    io::Error::from_raw_os_error(code.saturating_neg())
}

fn broken(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("the kernel's answer cannot be understood: {error}"))
}

/// Takes the peers out of one message of a device.
fn device(attributes: &[u8], peers: &mut Peers) -> io::Result<()> {
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.map_err(broken)?;
        if attribute.kind() == PEERS {
            for one in NlasIterator::new(attribute.value()) {
                if let Some((key, found)) = peer(one.map_err(broken)?.value())? {
                    peers.take(key, found);
                }
            }
        }
    }
    Ok(())
}

/// A peer; `None` if this is only the rest of its addresses, which have no place in one message with it (`get_peer`,
/// drivers/net/wireguard/netlink.c).
fn peer(attributes: &[u8]) -> io::Result<Option<(PublicKey, Peer)>> {
    let (mut key, mut peer) = (None, Peer::default());
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.map_err(broken)?;
        let value = attribute.value();
        let number = || value.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes));
        match attribute.kind() {
            KEY => key = PublicKey::try_from(value).ok(),
            RECEIVED => peer.received = number(),
            SENT => peer.sent = number(),
            // `struct __kernel_timespec`: seconds come first.
            LAST_HANDSHAKE => peer.handshake = number().filter(|time| i64::try_from(*time).is_ok()).unwrap_or_default(),
            _ => {}
        }
    }
    let is_whole = peer.received.is_some() && peer.sent.is_some();
    Ok(key.filter(|_| is_whole).map(|key| (key, peer)))
}

#[cfg(test)]
mod tests;
