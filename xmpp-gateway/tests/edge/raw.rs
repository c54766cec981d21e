//! A client that says exactly what the test says, over a pipe or over frames.

use crate::echo::CELL;
use archipel_xmpp::sasl::scram::{ClientExchange, Hash, nonce};
use archipel_xmpp::server::{Peer, Server};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

enum Pipe {
    Bytes(DuplexStream),
    Tls(Box<tokio_rustls::client::TlsStream<DuplexStream>>),
    Frames(mpsc::Sender<String>, mpsc::Receiver<String>),
}

/// The client's end, and what came over it and was not yet looked at.
pub(crate) struct Raw {
    pipe: Pipe,
    seen: String,
}

pub(crate) const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='vm.localhost' version='1.0'>";

pub(crate) fn remote() -> Peer {
    Peer::from("192.0.2.1:40000".parse::<SocketAddr>().unwrap())
}

pub(crate) fn loopback() -> Peer {
    Peer::from("[::ffff:127.0.0.1]:40000".parse::<SocketAddr>().unwrap())
}

impl Raw {
    pub(crate) fn connect(server: &Arc<Server>) -> Raw {
        Raw::connect_from(server, Peer::in_process("test"), 64 * 1024)
    }

    /// With a pipe that holds so many bytes.
    pub(crate) fn connect_from(server: &Arc<Server>, peer: Peer, holds: usize) -> Raw {
        let (ours, theirs) = tokio::io::duplex(holds);
        tokio::spawn(server.clone().accept_stream(theirs, peer));
        Raw { pipe: Pipe::Bytes(ours), seen: String::new() }
    }

    pub(crate) fn websocket(server: &Arc<Server>) -> Raw {
        Raw::websocket_from(server, Peer::in_process("test"))
    }

    pub(crate) fn websocket_from(server: &Arc<Server>, peer: Peer) -> Raw {
        let (to_server, incoming) = mpsc::channel(16);
        let (outgoing, from_server) = mpsc::channel(16);
        tokio::spawn(server.clone().accept_websocket(incoming, outgoing, peer));
        Raw { pipe: Pipe::Frames(to_server, from_server), seen: String::new() }
    }

    pub(crate) fn is_websocket(&self) -> bool {
        matches!(self.pipe, Pipe::Frames(..))
    }

    pub(crate) async fn send(&mut self, text: &str) {
        match &mut self.pipe {
            Pipe::Bytes(io) => io.write_all(text.as_bytes()).await.unwrap(),
            Pipe::Tls(io) => io.write_all(text.as_bytes()).await.unwrap(),
            Pipe::Frames(to, _) => to.send(text.to_owned()).await.unwrap(),
        }
    }

    /// Goes on in TLS of that version, shows a certificate of its own making, and believes any.
    pub(crate) async fn starttls(mut self, version: &'static rustls::SupportedProtocolVersion) -> Raw {
        self.open().await;
        self.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
        self.expect("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
        let Pipe::Bytes(io) = self.pipe else { panic!("TLS is for bytes") };
        let made = rcgen::generate_simple_self_signed(vec!["somebody".to_owned()]).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous(provider)))
            .with_client_auth_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let name = rustls_pki_types::ServerName::try_from(CELL).unwrap();
        let io = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, io).await.unwrap();
        Raw { pipe: Pipe::Tls(Box::new(io)), seen: String::new() }
    }

    /// Sends what the server may refuse to read to its end.
    pub(crate) async fn try_send(&mut self, text: &str) {
        match &mut self.pipe {
            Pipe::Bytes(io) => drop(io.write_all(text.as_bytes()).await),
            Pipe::Tls(io) => drop(io.write_all(text.as_bytes()).await),
            Pipe::Frames(to, _) => drop(to.send(text.to_owned()).await),
        }
    }

    async fn read(&mut self) -> bool {
        match &mut self.pipe {
            Pipe::Bytes(io) => {
                let mut buffer = [0; 4096];
                let n = io.read(&mut buffer).await.unwrap();
                self.seen.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
                n > 0
            }
            Pipe::Tls(io) => {
                let mut buffer = [0; 4096];
                let n = io.read(&mut buffer).await.unwrap();
                self.seen.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
                n > 0
            }
            Pipe::Frames(_, from) => match from.recv().await {
                Some(frame) => {
                    // Each frame must stand for itself.
                    frame.parse::<minidom::Element>().unwrap_or_else(|e| panic!("{frame}: {e}"));
                    self.seen.push_str(&frame);
                    true
                }
                None => false,
            },
        }
    }

    /// Reads on until `needle` came; answers everything up to and with it.
    pub(crate) async fn expect(&mut self, needle: &str) -> String {
        self.expect_one(&[needle]).await
    }

    async fn expect_one(&mut self, needles: &[&str]) -> String {
        loop {
            if let Some((at, needle)) = needles.iter().find_map(|n| self.seen.find(n).map(|at| (at, n))) {
                let rest = self.seen.split_off(at + needle.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            if !self.read().await {
                panic!("the stream ended before {needles:?} came: {:?}", self.seen);
            }
        }
    }

    /// Reads on until the stream ends; answers everything.
    pub(crate) async fn ended(mut self) -> String {
        while self.read().await {}
        self.seen
    }

    /// Reads until the stream ends; it must end by that error, closed properly.
    pub(crate) async fn refused(self, condition: &str) -> String {
        let footer = if self.is_websocket() { "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>" } else { "</stream:stream>" };
        let text = self.ended().await;
        assert!(text.contains(&format!("<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>")), "{condition}: {text}");
        assert!(text.contains("<stream:error") && text.ends_with(footer), "{text}");
        text
    }

    pub(crate) async fn open(&mut self) -> String {
        let open = if self.is_websocket() {
            "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='vm.localhost' version='1.0'/>"
        } else {
            HEADER
        };
        self.send(open).await;
        self.expect("</stream:features>").await
    }

    /// One SCRAM exchange; answers what the server said to the proof.
    pub(crate) async fn scram(&mut self, user: &str, password: &str) -> String {
        match self.challenged(user).await {
            Ok(begun) => self.prove(begun, password).await,
            Err(failure) => failure,
        }
    }

    /// The first half of it: up to the server's challenge, or its failure.
    pub(crate) async fn challenged(&mut self, user: &str) -> Result<(ClientExchange, String), String> {
        let (exchange, first) = ClientExchange::begin(Hash::Sha256, user, &nonce().unwrap());
        let encoded = BASE64.encode(first);
        self.send(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>{encoded}</auth>")).await;
        let answer = self.expect_one(&["</challenge>", "</failure>"]).await;
        if answer.contains("<failure") {
            return Err(answer);
        }
        let challenge = answer.split(['<', '>']).nth(2).unwrap();
        Ok((exchange, String::from_utf8(BASE64.decode(challenge).unwrap()).unwrap()))
    }

    /// The second half: the proof; answers what the server said to it.
    pub(crate) async fn prove(&mut self, (mut exchange, challenge): (ClientExchange, String), password: &str) -> String {
        let last = BASE64.encode(exchange.answer(password, &challenge).unwrap());
        self.send(&format!("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{last}</response>")).await;
        let answer = self.expect_one(&["</success>", "</failure>"]).await;
        if answer.contains("<failure") {
            return answer;
        }
        let signature = String::from_utf8(BASE64.decode(answer.split(['<', '>']).nth(2).unwrap()).unwrap()).unwrap();
        exchange.verify(&signature).unwrap();
        answer
    }

    pub(crate) async fn login(&mut self, user: &str, password: &str) {
        self.open().await;
        let answer = self.scram(user, password).await;
        assert!(answer.starts_with("<success"), "{answer}");
        self.open().await;
    }

    /// Binds; answers the full JID.
    pub(crate) async fn bind(&mut self, resource: &str) -> String {
        self.send(&format!(
            "<iq xmlns='jabber:client' type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind></iq>"
        ))
        .await;
        let answer = self.expect("</iq>").await;
        let jid = answer.split("<jid>").nth(1).and_then(|t| t.split("</jid>").next());
        jid.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// Everything up to a bound resource.
    pub(crate) async fn bound(mut self, user: &str, password: &str, resource: &str) -> Raw {
        self.login(user, password).await;
        assert_eq!(self.bind(resource).await, format!("{user}@{CELL}/{resource}"));
        self
    }

    /// Switches stream management on; answers the id to come back with.
    pub(crate) async fn enable(&mut self) -> String {
        self.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
        let answer = self.expect("/>").await;
        assert!(answer.starts_with("<enabled") && answer.contains("resume='true'"), "{answer}");
        answer.split("id='").nth(1).unwrap().split('\'').next().unwrap().to_owned()
    }

    pub(crate) async fn message(&mut self, body: &str) {
        self.send(&format!("<message xmlns='jabber:client' to='vm.localhost'><body>{body}</body></message>")).await;
    }

    /// Expects the echo of a message and answers its body.
    pub(crate) async fn echoed(&mut self) -> String {
        let text = self.expect("</message>").await;
        text.split("<body>").nth(1).unwrap().split('<').next().unwrap().to_owned()
    }
}

#[derive(Debug)]
struct Credulous(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
