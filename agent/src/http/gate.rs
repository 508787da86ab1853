//! Who may read: the bearer token, and TLS with or without client certificates. When one of them is demanded is
//! decided in `config`.

use std::path::Path;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::config::{Access, ConfigError, Secret, TlsFiles};

/// The checks that a connection and its requests pass.
#[derive(Clone, Default)]
pub struct Gate {
    pub(super) tls: Option<TlsAcceptor>,
    token: Option<Secret>,
}

impl Gate {
    /// Reads token, certificates and key.
    ///
    /// # Errors
    /// When a file cannot be read or does not hold what it should.
    pub fn new(access: &Access) -> Result<Self, ConfigError> {
        Ok(Self {
            token: access.token_file.as_deref().map(Secret::from_file).transpose()?,
            tls: access.tls.as_ref().map(acceptor).transpose()?,
        })
    }

    /// What is missing or wrong in a request's credentials, for the reader to mend.
    pub(super) fn refusal(&self, headers: &HeaderMap) -> Option<&'static str> {
        let token = self.token.as_ref()?;
        let Some(value) = headers.get(AUTHORIZATION) else {
            return Some("the Authorization header is missing, wanted \"Authorization: Bearer TOKEN\"");
        };
        // The scheme is case-insensitive (RFC 9110 section 11.1).
        let offered = value.as_bytes().split_at_checked(7);
        match offered.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer ")) {
            None => Some("the Authorization header has another scheme, wanted \"Authorization: Bearer TOKEN\""),
            Some((_, offered)) if token.matches(offered.trim_ascii()) => None,
            Some(_) => Some("the bearer token is not the one that this exporter was given"),
        }
    }
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, ConfigError> {
    let provider = Arc::new(ring::default_provider());
    let refuse = |path: &Path, error: &dyn std::fmt::Display| ConfigError::new(format!("{}: {error}", path.display()));
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| refuse(&files.key, &in_pem(&error)))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse(&files.cert, &error))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(path)? {
                roots.add(authority).map_err(|error| refuse(path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|error| refuse(path, &error))?)
        }
    };
    let mut config =
        builder.with_single_cert(certificates(&files.cert)?, key).map_err(|error| refuse(&files.cert, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let refuse = |error: &pem::Error| ConfigError::new(format!("{}: {}", path.display(), in_pem(error)));
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| refuse(&error))?;
    if certificates.is_empty() {
        return Err(refuse(&pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

fn in_pem(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "holds nothing of the kind that is wanted in PEM".to_owned(),
        other => other.to_string(),
    }
}
