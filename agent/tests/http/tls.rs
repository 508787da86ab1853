//! TLS, with and without client certificates.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sockmeter::config::{Access, TlsFiles};
use sockmeter::http::{Bounds, Gate};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::serving::{Answer, Given, Serving, write_request};

/// An authority with a server's and a client's certificate, as PEM files in a folder.
struct Papers {
    folder: tempfile::TempDir,
}

impl Papers {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(folder.path().join("ca"), authority.pem()).unwrap();
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &authority).unwrap();
            fs::write(folder.path().join(name), certificate.pem()).unwrap();
            fs::write(folder.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn access(&self, client_ca: bool) -> Access {
        let tls = TlsFiles {
            cert: self.path("server"),
            key: self.path("server.key"),
            client_ca: client_ca.then(|| self.path("ca")),
        };
        Access { tls: Some(tls), ..Access::default() }
    }

    fn connect(&self, serving: &Serving, as_client: bool) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&self.path("ca"))).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = if as_client {
            let key = PrivateKeyDer::from_pem_file(self.path("client.key")).unwrap();
            builder.with_client_auth_cert(vec![certificate(&self.path("client"))], key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        let session = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        StreamOwned::new(session, serving.connect())
    }
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

#[test]
fn a_page_comes_over_tls() {
    let papers = Papers::new();
    let serving = Serving::with(Given::default(), &papers.access(false), Bounds::default());
    assert_eq!(serving.url, format!("https://{}", serving.address));
    let mut stream = papers.connect(&serving, false);
    write_request(&mut stream, "GET /metrics", &[]);
    assert_eq!(Answer::read(&mut stream).text(), "text page\n");
}

#[test]
fn a_client_certificate_is_demanded_when_its_authority_is_configured() {
    let papers = Papers::new();
    let serving = Serving::with(Given::default(), &papers.access(true), Bounds::default());
    let mut known = papers.connect(&serving, true);
    write_request(&mut known, "GET /metrics", &[]);
    assert_eq!(Answer::read(&mut known).text(), "text page\n");
    let mut unknown = papers.connect(&serving, false);
    // The request may still be taken; the refusal comes with the first read (TLS 1.3).
    let refused = std::io::Write::write_all(&mut unknown, b"GET /metrics HTTP/1.1\r\n\r\n")
        .and_then(|()| std::io::Read::read(&mut unknown, &mut [0; 1]));
    assert_eq!(refused.unwrap_err().to_string(), "received fatal alert: CertificateRequired");
}

#[test]
fn plain_text_gets_no_page_from_a_tls_port() {
    let papers = Papers::new();
    let serving = Serving::with(Given::default(), &papers.access(false), Bounds::default());
    let mut stream = serving.connect();
    write_request(&mut stream, "GET /metrics", &[]);
    let mut bytes = Vec::new();
    // Reset or closed, after an alert or without one: what matters is that no page comes.
    let _ = std::io::Read::read_to_end(&mut stream, &mut bytes);
    assert_eq!(bytes.windows(4).filter(|window| *window == b"page").count(), 0);
}

#[test]
fn files_that_do_not_hold_what_they_should_are_refused_by_name() {
    let papers = Papers::new();
    let mut access = papers.access(false);
    if let Some(tls) = &mut access.tls {
        tls.cert = papers.path("server.key");
    }
    let wanted = format!("{}: holds nothing of the kind that is wanted in PEM", papers.path("server.key").display());
    assert_eq!(Gate::new(&access).err().map(|error| error.to_string()), Some(wanted));
}
