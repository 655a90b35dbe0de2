//! Whether a peer's certificate will do: by authority and name, by pinned key, or by both.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::certificate::{Parsed, hex};
use super::error::{TlsError, Verdict};

/// Verifies the peer of either side
///
/// With authorities the chain must lead to one of them; with pins the peer's public key must be among them; with both,
/// both must hold. Without authorities the dates of the peer's own certificate are checked here, and that the peer
/// holds its key is what the handshake's signature proves.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    provider: Arc<CryptoProvider>,
    servers: Option<Arc<WebPkiServerVerifier>>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    pins: Vec<[u8; 32]>,
    /// The name to find in the certificate, where it is not the one that was connected to
    name: Option<ServerName<'static>>,
    /// Whether a client must show one; a server always does
    mandatory: bool,
}

impl PeerVerifier {
    /// For the connecting side
    pub(super) fn of_servers(
        provider: Arc<CryptoProvider>,
        authorities: Option<Arc<RootCertStore>>,
        pins: Vec<[u8; 32]>,
        name: Option<ServerName<'static>>,
    ) -> Result<Self, String> {
        let servers = match authorities {
            None => None,
            Some(roots) => Some(
                WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
                    .build()
                    .map_err(|error| error.to_string())?,
            ),
        };
        Ok(Self { provider, servers, clients: None, pins, name, mandatory: true })
    }

    /// For the listening side
    pub(super) fn of_clients(
        provider: Arc<CryptoProvider>,
        authorities: Option<Arc<RootCertStore>>,
        pins: Vec<[u8; 32]>,
        name: Option<ServerName<'static>>,
        mandatory: bool,
    ) -> Result<Self, String> {
        let clients = match authorities {
            None => None,
            Some(roots) => Some(
                WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
                    .build()
                    .map_err(|error| error.to_string())?,
            ),
        };
        Ok(Self { provider, servers: None, clients, pins, name, mandatory })
    }

    /// What holds for both sides, once the chain is verified if there are authorities
    fn verify(&self, certificate: &CertificateDer<'_>, chain_verified: bool, now: UnixTime) -> Result<(), Error> {
        let parsed = read(certificate)?;
        if !self.pins.is_empty() {
            let public_key = parsed.public_key_sha256();
            if !self.pins.contains(&public_key) {
                return Err(refusal(TlsError::PinMismatch { public_key: hex(&public_key) }));
            }
        }
        if !chain_verified {
            let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            let (not_before, not_after) = parsed.validity();
            if now < not_before {
                return Err(CertificateError::NotValidYet.into());
            }
            if now > not_after {
                return Err(CertificateError::Expired.into());
            }
        }
        match &self.name {
            Some(name) => verify_server_name(&ParsedCertificate::try_from(certificate)?, name),
            None => Ok(()),
        }
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        read(end_entity)?;
        if let Some(servers) = &self.servers {
            servers.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        }
        self.verify(end_entity, self.servers.is_some(), now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.clients.as_ref().map_or(&[], |clients| clients.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        read(end_entity)?;
        if let Some(clients) = &self.clients {
            clients.verify_client_cert(end_entity, intermediates, now)?;
        }
        self.verify(end_entity, self.clients.is_some(), now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes the certificate apart, so that an unfit one (version 1) is named as such and not by what webpki misses first
fn read<'a>(certificate: &'a CertificateDer<'_>) -> Result<Parsed<'a>, Error> {
    Parsed::read(certificate).map_err(|reason| refusal(TlsError::BadCertificate { reason }))
}

/// Carries a verdict of ours through rustls, which tells the peer certificate_unknown
fn refusal(error: TlsError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Verdict(error)))))
}
