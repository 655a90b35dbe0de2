//! The floor under `tls://`: bare tokio-rustls, both ends with a certificate, and no session resumed unless told so.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, CommonState, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::endpoint::{Endpoint, allow_connections};
use crate::keys::Keys;
use crate::measure::{Measured, with};

/// Reads until `size` times `count` octets are there; the clock starts when the first ones are
pub(crate) fn sink(mut keys: Keys) -> Result<Value> {
    let endpoint = keys.endpoint()?;
    let (size, count) = (keys.number("size")?, keys.number("count")?);
    let acceptor = acceptor(&keys.folder("keys")?, false)?;
    keys.finish()?;
    let octets = size.checked_mul(count).context("size times count is more than can be counted")?;
    on_runtime(async move {
        let listener = listen(&endpoint)?;
        let mut stream = acceptor.accept(accept(&listener).await?).await.context("shaking hands")?;
        let mut buffer = vec![0; BLOCK];
        let first = stream.read(&mut buffer).await.context("reading")?;
        let measured = Measured::begin();
        let mut received = first;
        while received < octets {
            match stream.read(&mut buffer).await.context("reading")? {
                0 => bail!("the source closed after {received} of {octets} octets; has it the same size and count?"),
                read => received += read,
            }
        }
        let took = measured.end();
        if received > octets || stream.read(&mut buffer).await.context("reading")? > 0 {
            bail!("more than {octets} octets came; has the source the same size and count?");
        }
        stream.shutdown().await.context("closing")?;
        let report = took.report(count, (received - first) as f64 / size as f64);
        Ok(with(report, described(stream.get_ref().1)))
    })
}

/// Writes all octets in blocks of 64 KiB, and waits until the sink has read them
pub(crate) fn source(mut keys: Keys) -> Result<Value> {
    let endpoint = keys.endpoint()?;
    let (size, count) = (keys.number("size")?, keys.number("count")?);
    let connector = connector(&keys.folder("keys")?, false)?;
    keys.finish()?;
    let octets = size.checked_mul(count).context("size times count is more than can be counted")?;
    on_runtime(async move {
        let stream = connector.connect(server_name()?, dial(&endpoint).await?).await;
        let mut stream = stream.context("shaking hands")?;
        let block = vec![b'x'; BLOCK];
        let measured = Measured::begin();
        let mut left = octets;
        while left > 0 {
            let written = left.min(block.len());
            stream.write_all(&block[..written]).await.context("writing")?;
            left -= written;
        }
        stream.shutdown().await.context("closing")?;
        if stream.read(&mut [0]).await.context("waiting for the sink")? > 0 {
            bail!("the sink wrote something, so it is none");
        }
        Ok(with(measured.end().report(count, count as f64), described(stream.get_ref().1)))
    })
}

/// Takes in `connections`, sends back what comes, and ends when all are closed; with `resume` clients may come back
pub(crate) fn echo(mut keys: Keys) -> Result<Value> {
    let endpoint = keys.endpoint()?;
    let connections = keys.number("connections")?;
    let resume = keys.flag("resume")?;
    let acceptor = acceptor(&keys.folder("keys")?, resume)?;
    keys.finish()?;
    allow_connections(connections)?;
    on_runtime(async move {
        let listener = listen(&endpoint)?;
        let mut measured = None;
        let mut echoes = JoinSet::new();
        for _ in 0..connections {
            let stream = accept(&listener).await?;
            measured.get_or_insert_with(Measured::begin);
            let acceptor = acceptor.clone();
            echoes.spawn(async move {
                let mut stream = acceptor.accept(stream).await.context("shaking hands")?;
                let mut buffer = [0; 512];
                loop {
                    match stream.read(&mut buffer).await.context("reading")? {
                        0 => break,
                        read => stream.write_all(&buffer[..read]).await.context("writing")?,
                    }
                }
                stream.shutdown().await.context("closing")
            });
        }
        while let Some(echoed) = echoes.join_next().await {
            echoed.context("an echo task ended early")??;
        }
        let took = measured.context("no connection came")?.end();
        Ok(took.report(connections, connections as f64))
    })
}

/// Opens `connections`, each through its handshake and an echo of 64 octets, `inflight` of them at a time
///
/// With `hold` all stay open until the last is there, else each is closed at once. With `resume` the later ones
/// resume the sessions of those before, where the server has handed out tickets.
pub(crate) fn connect(mut keys: Keys) -> Result<Value> {
    let endpoint = keys.endpoint()?;
    let connections = keys.number("connections")?;
    let inflight = keys.number_if_given("inflight")?.unwrap_or(1);
    let hold = keys.flag("hold")?;
    let resume = keys.flag("resume")?;
    let connector = connector(&keys.folder("keys")?, resume)?;
    keys.finish()?;
    allow_connections(connections)?;
    on_runtime(async move {
        let (mut open, mut held) = (JoinSet::new(), Vec::with_capacity(connections));
        let measured = Measured::begin();
        let mut described_as = None;
        for begun in 0..connections + inflight {
            if begun >= inflight
                && let Some(opened) = open.join_next().await
            {
                let stream: tokio_rustls::client::TlsStream<TcpStream> =
                    opened.context("a connecting task ended early")??;
                described_as.get_or_insert_with(|| described(stream.get_ref().1));
                if hold {
                    held.push(stream);
                }
            }
            if begun < connections {
                let (connector, endpoint) = (connector.clone(), endpoint.clone());
                open.spawn(async move {
                    let stream = connector.connect(server_name()?, dial(&endpoint).await?).await;
                    let mut stream = stream.context("shaking hands")?;
                    let mut octets = [b'x'; 64];
                    stream.write_all(&octets).await.context("writing")?;
                    stream.read_exact(&mut octets).await.context("reading")?;
                    if !hold {
                        stream.shutdown().await.context("closing")?;
                    }
                    anyhow::Ok(stream)
                });
            }
        }
        let report = measured.end().report(connections, connections as f64);
        for stream in &mut held {
            stream.shutdown().await.context("closing")?;
        }
        Ok(with(report, described_as.unwrap_or_default()))
    })
}

fn acceptor(keys: &Path, resume: bool) -> Result<TlsAcceptor> {
    let verifier = WebPkiClientVerifier::builder(authorities(keys)?.into()).build().context("who checks clients")?;
    let (certificate, key) = identity(keys, "server")?;
    let mut config = ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(certificate, key)?;
    if !resume {
        // Tickets cost the server something, and nobody comes back with one
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config).into())
}

fn connector(keys: &Path, resume: bool) -> Result<TlsConnector> {
    let (certificate, key) = identity(keys, "client")?;
    let mut config = ClientConfig::builder()
        .with_root_certificates(authorities(keys)?)
        .with_client_auth_cert(certificate, key)
        .context("the client's certificate")?;
    if !resume {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config).into())
}

fn authorities(keys: &Path) -> Result<RootCertStore> {
    let mut authorities = RootCertStore::empty();
    authorities.add(CertificateDer::from_pem_file(keys.join("authority.crt")).context("reading authority.crt")?)?;
    Ok(authorities)
}

fn identity(keys: &Path, name: &str) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let reading = || format!("reading {name}.crt and {name}.key; `bench-floors make-keys` writes them");
    let certificate = CertificateDer::from_pem_file(keys.join(format!("{name}.crt"))).with_context(reading)?;
    let key = PrivateKeyDer::from_pem_file(keys.join(format!("{name}.key"))).with_context(reading)?;
    Ok((vec![certificate], key))
}

fn server_name() -> Result<ServerName<'static>> {
    Ok(ServerName::try_from("localhost")?)
}

fn listen(endpoint: &Endpoint) -> Result<TcpListener> {
    let listener = endpoint.listen()?;
    TcpListener::from_std(listener.duplicate()?.into()).context("listening on a runtime")
}

async fn accept(listener: &TcpListener) -> Result<TcpStream> {
    let (stream, _) = listener.accept().await.context("accepting")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn dial(endpoint: &Endpoint) -> Result<TcpStream> {
    let Endpoint::Tcp(address) = endpoint else { bail!("TLS is measured over tcp alone") };
    let address: SocketAddr = *address;
    let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {endpoint}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What both ends agreed on
fn described(tls: &CommonState) -> Value {
    json!({
        "tls": tls.protocol_version().map(|version| format!("{version:?}")),
        "cipher": tls.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())),
        "handshake": tls.handshake_kind().map(|kind| format!("{kind:?}")),
    })
}

fn on_runtime<T>(role: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(role)
}

/// Octets of a write and of a read at most
const BLOCK: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys in a folder of the test's own, which goes away with it
    struct Folder(std::path::PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn both_ends_agree_and_shake_hands_in_full() {
        let folder = Folder(std::env::temp_dir().join(format!("tidings-floors-{}", std::process::id())));
        let words = [format!("keys={}", folder.0.display())];
        crate::secrets::make_keys(Keys::parse(&words).unwrap()).unwrap();
        let (acceptor, connector) = (acceptor(&folder.0, false).unwrap(), connector(&folder.0, false).unwrap());
        on_runtime(async {
            for _ in 0..2 {
                let (near, far) = tokio::io::duplex(4096);
                let (client, server) =
                    tokio::join!(connector.connect(server_name().unwrap(), near), acceptor.accept(far));
                let (client, server) = (client?, server?);
                for end in [described(client.get_ref().1), described(server.get_ref().1)] {
                    assert_eq!(end["handshake"], "Full", "{end}");
                    assert_eq!(end["tls"], "TLSv1_3", "{end}");
                }
                assert!(server.get_ref().1.peer_certificates().is_some());
            }
            Ok(())
        })
        .unwrap();
    }
}
