//! The text an invited host is given: by whom the exchange is certified, and a secret that is good for one join.
//!
//! ```text
//!   aj  ca fingerprint (32 bytes)  secret (20)  check (2)     in base 32, lower case: one word, taken whole by a double click
//! ```
//! The fingerprint comes first in time as well: whoever does not hold the authority's key never sees the secret.

use archipel_contract::Fault;
use sha2::{Digest, Sha256};
use std::fmt;

const PREFIX: &str = "aj";
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const PRINT: usize = 32;
const SECRET: usize = 20;
const CHECK: usize = 2;

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// SHA-256 of the certificate of the cell's authority.
    pub authority: [u8; PRINT],
    secret: [u8; SECRET],
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(...)")
    }
}

impl Token {
    /// A fresh one: 160 random bits.
    pub(super) fn fresh(authority: [u8; PRINT]) -> Result<Token, Fault> {
        let mut secret = [0; SECRET];
        getrandom::fill(&mut secret).map_err(|e| Fault::internal("the system gives no random numbers").because(e))?;
        Ok(Token { authority, secret })
    }

    /// What is kept of it: nobody who reads this can join.
    pub(super) fn hash(&self) -> String {
        hash_of(&self.secret)
    }

    /// The secret as it is sent to an exchange that has proved itself.
    pub fn secret(&self) -> String {
        encode(&self.secret)
    }

    /// As it is handed on.
    pub fn to_text(&self) -> String {
        let mut bytes = [&self.authority[..], &self.secret[..]].concat();
        bytes.extend(check(&bytes));
        format!("{PREFIX}{}", encode(&bytes))
    }

    /// Reads what somebody pasted.
    pub fn parse(text: &str) -> Result<Token, Fault> {
        let bad =
            || Fault::invalid("that is no token, or a part of it is missing; copy the whole line that `archipel cell invite` printed");
        let bytes = text.trim().strip_prefix(PREFIX).and_then(decode).filter(|b| b.len() == PRINT + SECRET + CHECK).ok_or_else(bad)?;
        let (body, sum) = bytes.split_at(PRINT + SECRET);
        if sum != check(body) {
            return Err(bad());
        }
        let (authority, secret) = body.split_at(PRINT);
        Ok(Token { authority: authority.try_into().map_err(|_| bad())?, secret: secret.try_into().map_err(|_| bad())? })
    }
}

/// What is kept of a secret that was sent; `None` when it is none.
pub(super) fn hash_of_sent(secret: &str) -> Option<String> {
    decode(secret).filter(|bytes| bytes.len() == SECRET).map(|bytes| hash_of(&bytes))
}

fn hash_of(secret: &[u8]) -> String {
    hex(&Sha256::new().chain_update(b"archipel invitation").chain_update(secret).finalize())
}

/// Bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Against typing errors and half-copied lines, nothing else.
fn check(bytes: &[u8]) -> [u8; CHECK] {
    let sum = Sha256::digest(bytes);
    [sum[0], sum[1]]
}

fn encode(bytes: &[u8]) -> String {
    let (mut text, mut held, mut bits) = (String::new(), 0u32, 0);
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(held >> bits) as usize & 31]));
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(held << (5 - bits)) as usize & 31]));
    }
    text
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0u32, 0);
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|a| *a == letter.to_ascii_lowercase())?;
        held = (held << 5) | value as u32;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    (held == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_being_copied_and_not_being_shortened() {
        let token = Token::fresh([7; 32]).unwrap();
        let text = token.to_text();
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric()), "{text}");
        assert_eq!(Token::parse(&format!(" {text}\n")).unwrap(), token);
        assert_eq!(Token::parse(&text.to_uppercase().replacen("AJ", "aj", 1)).unwrap(), token);
        for wrong in ["", "aj", &text[..text.len() - 1], &text[2..], &format!("{text}a"), &text.replacen(&text[10..11], "?", 1)] {
            assert!(Token::parse(wrong).is_err(), "{wrong}");
        }
        let other = if text.as_bytes()[20] == b'a' { "b" } else { "a" };
        assert!(Token::parse(&format!("{}{other}{}", &text[..20], &text[21..])).is_err(), "one letter is another");
    }

    #[test]
    fn what_is_kept_is_not_what_is_sent() {
        let (token, other) = (Token::fresh([0; 32]).unwrap(), Token::fresh([0; 32]).unwrap());
        assert_ne!(token.hash(), other.hash());
        assert_eq!(hash_of_sent(&token.secret()), Some(token.hash()));
        assert!(!token.hash().contains(&token.secret()));
        assert_eq!(hash_of_sent("aa"), None);
        assert!(!format!("{token:?}").contains(&token.secret()));
    }
}
