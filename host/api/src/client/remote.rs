//! Connections to nodes on other machines: TLS 1.3, to the node whose certificate has the fingerprint that is known, and
//! to no other. So nothing is sent to a stranger, least of all the token.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connection::with_causes;
use crate::error::ClientError;
use crate::fingerprint::Fingerprint;

/// How long a connection may take, its handshake included.
const CONNECTING: Duration = Duration::from_secs(10);

/// A node on another machine.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteNode {
    /// Its host and port.
    pub address: String,
    /// The fingerprint of its certificate.
    pub fingerprint: Fingerprint,
    /// What it is shown.
    pub token: String,
}

impl std::fmt::Debug for RemoteNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteNode")
            .field("address", &self.address)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// Sends a request over a new connection, and returns the response.
pub(super) async fn request(
    node: &RemoteNode,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, ClientError> {
    let known = Known::new(Some(node.fingerprint));
    let stream = connect(&node.address, &known).await?;
    let broken = |error: hyper::Error| ClientError::Broken(with_causes(&error));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // As of the connections to a socket.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(broken)
}

/// Returns the fingerprint of the certificate of whoever listens at an address. Nothing is sent to it.
///
/// # Errors
///
/// If nobody listens there, or not with TLS 1.3.
pub async fn fingerprint_of(address: &str) -> Result<Fingerprint, ClientError> {
    let known = Known::new(None);
    drop(connect(address, &known).await?);
    known
        .seen()
        .ok_or_else(|| not_there(address, "it has shown no certificate".to_owned()))
}

async fn connect(address: &str, known: &Arc<Known>) -> Result<TlsStream<TcpStream>, ClientError> {
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let config = ClientConfig::builder_with_provider(known.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(known.clone())
            .with_no_client_auth();
        // Not sent: the certificate is known by its fingerprint, whatever it names.
        let name = ServerName::try_from("exuvia").map_err(io::Error::other)?;
        let mut config = config;
        config.enable_sni = false;
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    };
    match tokio::time::timeout(CONNECTING, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => match (known.expected, known.seen()) {
            (Some(expected), Some(seen)) if expected != seen => Err(ClientError::Stranger {
                address: address.to_owned(),
                expected,
                seen,
            }),
            _ => Err(not_there(address, error.to_string())),
        },
        Err(_) => Err(not_there(
            address,
            format!("it does not answer within {CONNECTING:?}"),
        )),
    }
}

fn not_there(address: &str, why: String) -> ClientError {
    ClientError::NoNode {
        socket: address.into(),
        why,
        help: "start one there with `exuvia run --remote ADDR`, and check the address and the firewall",
    }
}

/// Accepts the certificate that is known, or any to learn its fingerprint.
#[derive(Debug)]
struct Known {
    expected: Option<Fingerprint>,
    seen: Mutex<Option<Fingerprint>>,
    provider: Arc<CryptoProvider>,
}

impl Known {
    fn new(expected: Option<Fingerprint>) -> Arc<Known> {
        Arc::new(Known {
            expected,
            seen: Mutex::new(None),
            provider: Arc::new(rustls::crypto::ring::default_provider()),
        })
    }

    fn seen(&self) -> Option<Fingerprint> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let seen = Fingerprint::of(certificate);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        match self.expected {
            Some(expected) if expected != seen => Err(TlsError::General(
                "the certificate is another one".to_owned(),
            )),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::General("TLS 1.3 only".to_owned()))
    }

    /// That the other side has the key of its certificate.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
