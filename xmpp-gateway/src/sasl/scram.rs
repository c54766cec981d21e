//! SCRAM-SHA-1 and SCRAM-SHA-256 (RFC 5802, RFC 7677), both sides, without channel binding. Pure: text in, text out.
//!
//! ```text
//!   client                                     server
//!   begin  -- n,,n=user,r=CN ---------------->  ClientFirst::parse, then ServerExchange::begin
//!          <- r=CN+SN,s=salt,i=rounds --------
//!   answer -- c=biws,r=CN+SN,p=proof -------->  finish: constant-time compare
//!   verify <- v=signature --------------------
//! ```

use archipel_contract::port::ScramKeys;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The fewest rounds ever used or accepted.
pub const MIN_ITERATIONS: u32 = 4096;
/// The most rounds a client lets a server ask for: more only burns its processor.
pub const MAX_ITERATIONS: u32 = 10_000_000;

/// The hash of a mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hash {
    /// SCRAM-SHA-1.
    Sha1,
    /// SCRAM-SHA-256.
    Sha256,
}

impl Hash {
    /// The mechanism's name.
    pub fn mechanism(self) -> &'static str {
        match self {
            Hash::Sha1 => "SCRAM-SHA-1",
            Hash::Sha256 => "SCRAM-SHA-256",
        }
    }

    fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha1 => Sha1::digest(data).to_vec(),
            Hash::Sha256 => Sha256::digest(data).to_vec(),
        }
    }

    /// A keyed digest. HMAC takes keys of any length, so the error of the interface cannot happen.
    pub(crate) fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha1 => {
                Hmac::<Sha1>::new_from_slice(key).map(|m| m.chain_update(data).finalize().into_bytes().to_vec()).unwrap_or_default()
            }
            Hash::Sha256 => {
                Hmac::<Sha256>::new_from_slice(key).map(|m| m.chain_update(data).finalize().into_bytes().to_vec()).unwrap_or_default()
            }
        }
    }

    /// The salted password. Slow by design: never on an asynchronous thread.
    pub fn salted(self, password: &str, salt: &[u8], iterations: u32) -> Vec<u8> {
        match self {
            Hash::Sha1 => pbkdf2::pbkdf2_hmac_array::<Sha1, 20>(password.as_bytes(), salt, iterations).to_vec(),
            Hash::Sha256 => pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), salt, iterations).to_vec(),
        }
    }

    /// The keys that are stored instead of a (prepared) password. Slow by design.
    pub fn keys(self, password: &str, salt: &[u8], iterations: u32) -> ScramKeys {
        let salted = self.salted(password, salt, iterations);
        let client = self.hmac(&salted, b"Client Key");
        ScramKeys { stored: self.digest(&client), server: self.hmac(&salted, b"Server Key") }
    }
}

/// Prepares a password as both sides must (SASLprep, RFC 4013). `None` when it holds something forbidden, or nothing.
pub fn prepare(password: &str) -> Option<String> {
    if password.is_ascii() {
        let printable = password.bytes().all(|b| (0x20..0x7f).contains(&b));
        return (printable && !password.is_empty()).then(|| password.to_owned());
    }
    stringprep::saslprep(password).ok().map(|p| p.into_owned()).filter(|p| !p.is_empty())
}

/// A fresh nonce: 144 random bits.
pub fn nonce() -> Result<String, getrandom::Error> {
    let mut bytes = [0u8; 18];
    getrandom::fill(&mut bytes)?;
    Ok(BASE64.encode(bytes))
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// Not SCRAM's grammar, or a nonce or header that is not the one agreed on.
    #[error("malformed SCRAM message")]
    Malformed,
    /// The client insists on channel binding or on an extension we do not have.
    #[error("the SCRAM message asks for channel binding or an extension that is not supported")]
    Unsupported,
    /// The proof is wrong: another password.
    #[error("wrong password")]
    WrongProof,
    /// The server did not prove that it knows the password's keys.
    #[error("the server could not prove that it knows this account; do not trust it")]
    WrongServer,
    /// The server asks for too few or too many rounds.
    #[error("the server asks for a number of rounds that is out of range")]
    Iterations,
    /// The server refused, in its own words where there were any.
    #[error("the server refused the login")]
    Refused,
}

/// The client's first message, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFirst {
    /// The GS2 header, which the client must repeat.
    pub gs2: String,
    /// Everything after it.
    pub bare: String,
    /// The user's name.
    pub user: String,
    /// As whom they want to act, if they say so.
    pub authzid: Option<String>,
    /// The client's nonce.
    pub nonce: String,
}

impl ClientFirst {
    /// Takes the message apart.
    pub fn parse(message: &str) -> Result<ClientFirst, ScramError> {
        let mut parts = message.splitn(3, ',');
        let (Some(flag), Some(authzid), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(ScramError::Malformed);
        };
        match flag {
            // `y`: the client could bind the channel but believes that we cannot. It is right, we offer no PLUS mechanism.
            "n" | "y" => {}
            _ if flag.starts_with("p=") => return Err(ScramError::Unsupported),
            _ => return Err(ScramError::Malformed),
        }
        let authzid = match authzid {
            "" => None,
            name => Some(unescape(name.strip_prefix("a=").ok_or(ScramError::Malformed)?)?),
        };
        if bare.starts_with("m=") {
            return Err(ScramError::Unsupported);
        }
        let mut fields = bare.split(',');
        let user = unescape(field(fields.next(), "n=")?)?;
        let nonce = field(fields.next(), "r=")?.to_owned();
        if user.is_empty() || !printable(&nonce) {
            return Err(ScramError::Malformed);
        }
        let gs2 = message[..message.len() - bare.len()].to_owned();
        Ok(ClientFirst { gs2, bare: bare.to_owned(), user, authzid, nonce })
    }
}

/// The server's side, after the client's first message.
#[derive(Debug)]
pub struct ServerExchange {
    hash: Hash,
    gs2: String,
    nonce: String,
    keys: ScramKeys,
    /// The first two messages, as they go into the signature.
    transcript: String,
}

impl ServerExchange {
    /// Answers the client's first message. `nonce` is fresh and random.
    pub fn begin(hash: Hash, first: &ClientFirst, salt: &[u8], iterations: u32, keys: ScramKeys, nonce: &str) -> (ServerExchange, String) {
        let nonce = format!("{}{nonce}", first.nonce);
        let challenge = format!("r={nonce},s={},i={iterations}", BASE64.encode(salt));
        let transcript = format!("{},{challenge}", first.bare);
        (ServerExchange { hash, gs2: first.gs2.clone(), nonce, keys, transcript }, challenge)
    }

    /// Checks the client's proof and answers our signature.
    pub fn finish(self, message: &str) -> Result<String, ScramError> {
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let mut fields = without_proof.split(',');
        let binding = BASE64.decode(field(fields.next(), "c=")?).map_err(|_| ScramError::Malformed)?;
        let nonce = field(fields.next(), "r=")?;
        if binding != self.gs2.as_bytes() || !bool::from(nonce.as_bytes().ct_eq(self.nonce.as_bytes())) {
            return Err(ScramError::Malformed);
        }
        let proof = BASE64.decode(proof).map_err(|_| ScramError::Malformed)?;
        let transcript = format!("{},{without_proof}", self.transcript);
        let mut client = self.hash.hmac(&self.keys.stored, transcript.as_bytes());
        if proof.len() != client.len() {
            return Err(ScramError::WrongProof);
        }
        for (byte, with) in client.iter_mut().zip(&proof) {
            *byte ^= with;
        }
        if !bool::from(self.hash.digest(&client).ct_eq(&self.keys.stored)) {
            return Err(ScramError::WrongProof);
        }
        Ok(format!("v={}", BASE64.encode(self.hash.hmac(&self.keys.server, transcript.as_bytes()))))
    }
}

/// The client's side.
#[derive(Debug)]
pub struct ClientExchange {
    hash: Hash,
    bare: String,
    nonce: String,
    signature: Option<Vec<u8>>,
}

impl ClientExchange {
    /// The first message. `nonce` is fresh and random.
    pub fn begin(hash: Hash, user: &str, nonce: &str) -> (ClientExchange, String) {
        let bare = format!("n={},r={nonce}", user.replace('=', "=3D").replace(',', "=2C"));
        let message = format!("n,,{bare}");
        (ClientExchange { hash, bare, nonce: nonce.to_owned(), signature: None }, message)
    }

    /// Answers the server's challenge. The password must be prepared already. Slow by design: never on an asynchronous thread.
    pub fn answer(&mut self, password: &str, challenge: &str) -> Result<String, ScramError> {
        if challenge.starts_with("m=") {
            return Err(ScramError::Unsupported);
        }
        let mut fields = challenge.split(',');
        let nonce = field(fields.next(), "r=")?;
        let salt = BASE64.decode(field(fields.next(), "s=")?).map_err(|_| ScramError::Malformed)?;
        let iterations: u32 = field(fields.next(), "i=")?.parse().map_err(|_| ScramError::Malformed)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ScramError::Malformed);
        }
        if !(MIN_ITERATIONS..=MAX_ITERATIONS).contains(&iterations) {
            return Err(ScramError::Iterations);
        }
        let salted = self.hash.salted(password, &salt, iterations);
        let without_proof = format!("c=biws,r={nonce}");
        let transcript = format!("{},{challenge},{without_proof}", self.bare);
        let key = self.hash.hmac(&salted, b"Client Key");
        let mut proof = self.hash.hmac(&self.hash.digest(&key), transcript.as_bytes());
        for (byte, with) in proof.iter_mut().zip(&key) {
            *byte ^= with;
        }
        self.signature = Some(self.hash.hmac(&self.hash.hmac(&salted, b"Server Key"), transcript.as_bytes()));
        Ok(format!("{without_proof},p={}", BASE64.encode(proof)))
    }

    /// Checks that the server knew the account's keys too.
    pub fn verify(&self, message: &str) -> Result<(), ScramError> {
        if message.starts_with("e=") {
            return Err(ScramError::Refused);
        }
        let signature = message.split(',').next().and_then(|m| m.strip_prefix("v=")).ok_or(ScramError::Malformed)?;
        let signature = BASE64.decode(signature).map_err(|_| ScramError::Malformed)?;
        match &self.signature {
            Some(expected) if bool::from(expected.as_slice().ct_eq(&signature)) => Ok(()),
            _ => Err(ScramError::WrongServer),
        }
    }
}

fn field<'a>(field: Option<&'a str>, name: &str) -> Result<&'a str, ScramError> {
    field.and_then(|f| f.strip_prefix(name)).ok_or(ScramError::Malformed)
}

fn printable(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b',')
}

/// `=2C` and `=3D` in names; any other `=` is an error.
fn unescape(name: &str) -> Result<String, ScramError> {
    let mut parts = name.split('=');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (byte, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(ScramError::Malformed),
        };
        out.push(byte);
        out.push_str(rest);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Vector {
        hash: Hash,
        client_nonce: &'static str,
        server_nonce: &'static str,
        salt: &'static str,
        messages: [&'static str; 4],
    }

    /// The examples of RFC 5802 section 5 and RFC 7677 section 3: user `user`, password `pencil`, 4096 rounds.
    const VECTORS: [Vector; 2] = [
        Vector {
            hash: Hash::Sha1,
            client_nonce: "fyko+d2lbbFgONRv9qkxdawL",
            server_nonce: "3rfcNHYJY1ZVvWVs7j",
            salt: "QSXCR+Q6sek8bf92",
            messages: [
                "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
                "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
                "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
                "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
            ],
        },
        Vector {
            hash: Hash::Sha256,
            client_nonce: "rOprNGfwEbeRWgbNEkqO",
            server_nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
            salt: "W22ZaJ0SNY7soEsUEjb6gQ==",
            messages: [
                "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
                "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
                "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
                "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            ],
        },
    ];

    fn server(vector: &Vector, password: &str) -> (ServerExchange, String) {
        let salt = BASE64.decode(vector.salt).unwrap();
        let first = ClientFirst::parse(vector.messages[0]).unwrap();
        ServerExchange::begin(vector.hash, &first, &salt, 4096, vector.hash.keys(password, &salt, 4096), vector.server_nonce)
    }

    #[test]
    fn both_sides_follow_the_rfc_examples() {
        for vector in &VECTORS {
            let (mut client, first) = ClientExchange::begin(vector.hash, "user", vector.client_nonce);
            assert_eq!(first, vector.messages[0]);
            let (server, challenge) = server(vector, "pencil");
            assert_eq!(challenge, vector.messages[1]);
            let last = client.answer("pencil", &challenge).unwrap();
            assert_eq!(last, vector.messages[2]);
            let signature = server.finish(&last).unwrap();
            assert_eq!(signature, vector.messages[3]);
            assert_eq!(client.verify(&signature), Ok(()));
        }
    }

    #[test]
    fn neither_side_accepts_the_other_without_the_password() {
        for vector in &VECTORS {
            let (exchange, _) = server(vector, "pen");
            assert_eq!(exchange.finish(vector.messages[2]), Err(ScramError::WrongProof));
            let (mut client, _) = ClientExchange::begin(vector.hash, "user", vector.client_nonce);
            client.answer("pen", vector.messages[1]).unwrap();
            assert_eq!(client.verify(vector.messages[3]), Err(ScramError::WrongServer));
            assert_eq!(client.verify("e=other-error"), Err(ScramError::Refused));
        }
    }

    #[test]
    fn a_changed_nonce_or_header_is_refused() {
        let vector = &VECTORS[1];
        for (from, to) in [("r=rOpr", "r=xOpr"), ("c=biws", "c=eSws"), ("c=biws", "c=%"), (",p=", ",q=")] {
            assert_eq!(server(vector, "pencil").0.finish(&vector.messages[2].replacen(from, to, 1)), Err(ScramError::Malformed), "{to}");
        }
        let (mut client, _) = ClientExchange::begin(Hash::Sha256, "user", "abc");
        assert_eq!(client.answer("x", "r=abc,s=QSXC,i=4096"), Err(ScramError::Malformed), "the server must add to the nonce");
        assert_eq!(client.answer("x", "r=xyz1,s=QSXC,i=4096"), Err(ScramError::Malformed));
        assert_eq!(client.answer("x", "r=abcd,s=QSXC,i=1"), Err(ScramError::Iterations));
        assert_eq!(client.answer("x", "r=abcd,s=QSXC,i=4000000000"), Err(ScramError::Iterations));
    }

    #[test]
    fn first_messages_are_taken_apart() {
        let first = ClientFirst::parse("y,a=b=2Cc,n=u=3Dv,r=nonce,ext=1").unwrap();
        assert_eq!((first.gs2.as_str(), first.user.as_str(), first.authzid.as_deref()), ("y,a=b=2Cc,", "u=v", Some("b,c")));
        assert_eq!(ClientFirst::parse("p=tls-unique,,n=u,r=n"), Err(ScramError::Unsupported));
        assert_eq!(ClientFirst::parse("n,,m=x,n=u,r=n"), Err(ScramError::Unsupported));
        for bad in ["", "n", "n,", "n,,", "x,,n=u,r=n", "n,b,n=u,r=n", "n,,n=u=,r=n", "n,,n=,r=n", "n,,n=u,r=", "n,,r=n,n=u", "n,,n=u"] {
            assert_eq!(ClientFirst::parse(bad), Err(ScramError::Malformed), "{bad}");
        }
    }

    #[test]
    fn passwords_are_prepared_alike() {
        assert_eq!(prepare("I\u{ad}X").as_deref(), Some("IX"));
        assert_eq!(prepare("\u{2168}").as_deref(), Some("IX"));
        assert_eq!(prepare("p w").as_deref(), Some("p w"));
        assert_eq!(prepare("\u{7}"), None);
        assert_eq!(prepare(""), None);
    }
}
