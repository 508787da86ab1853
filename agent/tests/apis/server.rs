//! A server that answers what it is told, once, over TLS too; and what the agent says of its own connections to it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use sockmeter::api::Own;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Takes one connection and answers what it is asked, in order; gives the heads, and where the connection came from.
pub(crate) fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    answers: Vec<Vec<u8>>,
) -> JoinHandle<(Vec<String>, SocketAddr)> {
    std::thread::spawn(move || {
        let (stream, peer) = listener.accept().unwrap();
        let heads = match tls {
            None => answer(stream, answers),
            Some(config) => answer(StreamOwned::new(ServerConnection::new(config).unwrap(), stream), answers),
        };
        (heads, peer)
    })
}

fn answer(mut stream: impl Read + Write, answers: Vec<Vec<u8>>) -> Vec<String> {
    let mut heads = Vec::new();
    for answer in answers {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
            head.extend_from_slice(&byte);
        }
        heads.push(String::from_utf8(head).unwrap());
        // The client may have had enough.
        let _ = stream.write_all(&answer).and_then(|()| stream.flush());
    }
    heads
}

pub(crate) fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// What the agent said of its own connections: where from, and whether it is over.
#[derive(Default)]
pub(crate) struct Said(pub(crate) Vec<(SocketAddr, bool)>);

impl Own for Said {
    fn begins(&mut self, from: SocketAddr) {
        self.0.push((from, false));
    }

    fn is_over(&mut self, from: SocketAddr) {
        self.0.push((from, true));
    }
}

pub(crate) fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A certificate as Go makes it for itself: no host's name in it.
pub(crate) fn self_signed() -> (String, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "master");
    (params.self_signed(&key).unwrap().pem(), key)
}

pub(crate) fn tls(pem: &str, key: &KeyPair) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let certificates = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    Arc::new(builder.with_single_cert(certificates, key).unwrap())
}
