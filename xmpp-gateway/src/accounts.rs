//! From a password to an account's keys.

use crate::sasl::scram::{Hash, MIN_ITERATIONS, prepare};
use archipel_contract::Fault;
use archipel_contract::port::{Account, AccountKind};

/// Rounds for new accounts. Ten milliseconds of work for each guess, once per login.
pub const ITERATIONS: u32 = 10_000;

/// The account with that name and password: a random salt, and the keys of both mechanisms. Never fewer rounds than 4096.
///
/// This is slow by design; call it from a thread that may block.
pub fn account(local: &str, password: &str, kind: AccountKind, iterations: u32) -> Result<Account, Fault> {
    let password = prepare(password)
        .ok_or_else(|| Fault::invalid("the password is empty or holds characters that cannot be typed everywhere; choose another one"))?;
    let local = jid::NodePart::new(local)
        .map_err(|e| Fault::invalid(format!("{local:?} cannot be the name of an account; use letters and digits")).because(e))?
        .to_string();
    let iterations = iterations.max(MIN_ITERATIONS);
    let mut salt = vec![0u8; 16];
    getrandom::fill(&mut salt).map_err(|e| Fault::internal("the system gives no random numbers").because(e))?;
    let keys = |hash: Hash| hash.keys(&password, &salt, iterations);
    let (sha1, sha256) = (keys(Hash::Sha1), keys(Hash::Sha256));
    Ok(Account { local, kind, salt, iterations, sha1, sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipel_contract::Role;

    #[test]
    fn the_same_password_has_other_keys_each_time() {
        let make = || account("Admin", "secret", AccountKind::Person(Role::Admin), 1).unwrap();
        let (a, b) = (make(), make());
        assert_eq!(a.local, "admin");
        assert_eq!(a.iterations, MIN_ITERATIONS);
        assert_ne!(a.salt, b.salt);
        assert_ne!(a.sha256, b.sha256);
        assert_eq!(a.sha256, Hash::Sha256.keys("secret", &a.salt, a.iterations));
    }

    #[test]
    fn unusable_names_and_passwords_are_refused() {
        for (local, password) in [("a b", "x"), ("a@b", "x"), ("", "x"), ("a", ""), ("a", "\u{7}")] {
            assert!(account(local, password, AccountKind::Node, 4096).is_err(), "{local:?} {password:?}");
        }
    }
}
