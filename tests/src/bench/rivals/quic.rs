//! A bare request and answer over QUIC with mutual TLS: what the session is built on, with
//! nothing on top. Each request has a bidirectional stream of its own, as each job has.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::bench::Res;
use crate::bench::clock::Watch;
use crate::bench::stats::Samples;

const NAME: &str = "echo.internal";
const ALPN: &[u8] = b"echo";
const REQUEST_BYTES: usize = 1024;

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn identity(authority: &CertifiedIssuer<'_, KeyPair>) -> Res<Identity> {
    let key = KeyPair::generate()?;
    let params = CertificateParams::new(vec![NAME.to_owned()])?;
    let certificate = params.signed_by(&key, authority)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(Identity { chain: vec![certificate.der().clone()], key })
}

fn configs() -> Res<(quinn::ServerConfig, quinn::ClientConfig)> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der().clone())?;
    let roots = Arc::new(roots);
    let provider = Arc::new(rustls::crypto::ring::default_provider());

    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::clone(&roots),
        Arc::clone(&provider),
    )
    .build()?;
    let own = identity(&authority)?;
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(own.chain, own.key)?;
    server.alpn_protocols = vec![ALPN.to_vec()];

    let own = identity(&authority)?;
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(own.chain, own.key)?;
    client.alpn_protocols = vec![ALPN.to_vec()];

    let server = QuicServerConfig::try_from(server)?;
    let client = QuicClientConfig::try_from(client)?;
    Ok((
        quinn::ServerConfig::with_crypto(Arc::new(server)),
        quinn::ClientConfig::new(Arc::new(client)),
    ))
}

async fn serve(endpoint: quinn::Endpoint) -> Res<()> {
    let incoming = endpoint.accept().await.ok_or("the echo server was closed")?;
    let connection = incoming.await?;
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        let request = receive.read_to_end(REQUEST_BYTES).await?;
        send.write_all(&request).await?;
        send.finish()?;
    }
    Ok(())
}

async fn ask(address: SocketAddr, config: quinn::ClientConfig, count: usize) -> Res<Samples> {
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let connection = endpoint.connect_with(config, address, NAME)?.await?;
    let mut secs = Vec::with_capacity(count);
    for _ in 0..count {
        let watch = Watch::start();
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(&[7; REQUEST_BYTES]).await?;
        send.finish()?;
        let answer = receive.read_to_end(REQUEST_BYTES).await?;
        secs.push(watch.secs());
        if answer.len() != REQUEST_BYTES {
            return Err("the echo came back short".into());
        }
    }
    connection.close(0u32.into(), b"done");
    endpoint.wait_idle().await;
    Ok(Samples::new(secs))
}

/// `count` requests and answers of 1 KiB, one after the other; client and server have a thread
/// and a runtime each.
///
/// # Errors
/// If the connection cannot be made or breaks.
pub async fn echo(count: usize) -> Res<Samples> {
    let (server, client) = configs()?;
    let (address_is, address) = tokio::sync::oneshot::channel();
    let thread = std::thread::spawn(move || -> Res<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async move {
            let endpoint = quinn::Endpoint::server(server, SocketAddr::from(([127, 0, 0, 1], 0)))?;
            if address_is.send(endpoint.local_addr()?).is_err() {
                return Err("nobody asks the echo server".into());
            }
            let served = tokio::time::timeout(Duration::from_secs(120), serve(endpoint));
            served.await.map_err(|_| "the echo server waited too long")?
        })
    });
    let samples = ask(address.await?, client, count).await?;
    thread.join().map_err(|_| "the echo server panicked")??;
    Ok(samples)
}
