//! Where a connection of ours comes from: bound before it is made, so that from its first packet on everybody who wants to
//! know can know whose it is. What is said on it is `client`'s.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream, UdpSocket};

/// Who wants to know the agent's own connections before they are made.
pub trait Own: Send {
    /// A connection from here is about to be made.
    fn begins(&mut self, from: SocketAddr);
    /// It is over.
    fn is_over(&mut self, from: SocketAddr);
}

/// A connection of ours, which is over when this is dropped.
pub(super) struct Mine<'a> {
    own: &'a mut dyn Own,
    from: Option<SocketAddr>,
}

impl<'a> Mine<'a> {
    pub(super) fn new(own: &'a mut dyn Own) -> Self {
        Self { own, from: None }
    }

    pub(super) async fn connect(&mut self, to: SocketAddr) -> io::Result<TcpStream> {
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        // A datagram socket that is connected knows its source address, and sends nothing for that.
        let route = UdpSocket::bind((any, 0)).await?;
        route.connect(to).await?;
        let mut from = route.local_addr()?;
        from.set_port(0);
        let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(from)?;
        let from = socket.local_addr()?;
        self.is_over();
        self.own.begins(from);
        self.from = Some(from);
        socket.connect(to).await
    }

    fn is_over(&mut self) {
        if let Some(from) = self.from.take() {
            self.own.is_over(from);
        }
    }
}

impl Drop for Mine<'_> {
    fn drop(&mut self) {
        self.is_over();
    }
}
