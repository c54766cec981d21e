//! Small named documents. A version is the revision of etcd that wrote it: it grows and never comes again. A removed document stays
//! as an empty value, so that a late attempt to write it first cannot bring it back.

use super::Etcd;
use super::call::{get, unchanged};
use archipel_contract::port::{Documents, Versioned, check_document};
use archipel_contract::{BoxFuture, Fault, FaultKind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

fn bytes(text: &str) -> Result<Vec<u8>, Fault> {
    STANDARD.decode(text).map_err(|e| Fault::internal("a document in etcd cannot be read; please report this").because(e))
}

/// A document as it lies in etcd.
pub(super) fn entry(etcd: &Etcd, key: &str, body: &[u8]) -> (String, Value) {
    (etcd.key(format_args!("document/{key}")), Value::from(STANDARD.encode(body)))
}

impl Etcd {
    async fn write(&self, key: &str, expected: Option<u64>, body: Option<Vec<u8>>) -> Result<u64, Fault> {
        check_document(key, body.as_deref())?;
        let (call, at) = (self.call(), self.key(format_args!("document/{key}")));
        let text = body.map(|body| STANDARD.encode(body));
        let mut seen = call.read::<Option<String>>(&at).await?;
        loop {
            if call.wrote(&seen) {
                return Ok(seen.revision as u64);
            }
            let there = seen.value.as_ref().and_then(Option::as_ref).map(|_| seen.revision as u64);
            if there != expected {
                return Err(Fault::new(FaultKind::Conflict, format!("the document {key} was changed meanwhile; read it again")));
            }
            let done = call.commit(vec![unchanged(&at, seen.revision)], vec![call.put(&at, &text)?], vec![get(&at)]).await?;
            if done.made {
                return Ok(done.revision as u64);
            }
            seen = done.seen(0)?;
        }
    }
}

impl Documents for Etcd {
    fn document(&self, key: String) -> BoxFuture<'_, Result<Option<Versioned>, Fault>> {
        Box::pin(async move {
            let key = self.key(format_args!("document/{key}"));
            let seen = self.call().read::<Option<String>>(&key).await?;
            let version = seen.revision as u64;
            seen.value.flatten().map(|text| Ok(Versioned { version, body: bytes(&text)? })).transpose()
        })
    }

    fn documents(&self, prefix: String) -> BoxFuture<'_, Result<Vec<(String, Versioned)>, Fault>> {
        Box::pin(async move {
            let root = self.key("document/");
            let mut all = Vec::new();
            for (key, version, text) in self.under::<Option<String>>(&format!("{root}{prefix}")).await? {
                if let Some(text) = text {
                    all.push((key[root.len()..].to_owned(), Versioned { version: version as u64, body: bytes(&text)? }));
                }
            }
            Ok(all)
        })
    }

    fn write_document(&self, key: String, expected: Option<u64>, body: Option<Vec<u8>>) -> BoxFuture<'_, Result<u64, Fault>> {
        Box::pin(async move { self.write(&key, expected, body).await })
    }
}
