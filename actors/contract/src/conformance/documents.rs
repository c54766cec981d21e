//! What everything that keeps documents must do: compare-and-set with versions that never come again.

use crate::{
    Fault, FaultKind,
    port::{DOCUMENT_BYTES, Documents},
};

fn refused<T: std::fmt::Debug>(result: Result<T, Fault>, kind: FaultKind) {
    assert_eq!(result.expect_err("must be refused").kind, kind);
}

/// Written once, changed from the version that was read, removed, written again under a higher version.
pub async fn a_document_is_changed_from_what_was_read(documents: &dyn Documents) {
    let write =
        |key: &str, expected, body: Option<&str>| documents.write_document(key.into(), expected, body.map(|b| b.as_bytes().to_vec()));
    assert_eq!(documents.document("a/1".into()).await.expect("read"), None);
    refused(write("a/1", Some(1), Some("x")).await, FaultKind::Conflict);
    let first = write("a/1", None, Some("x")).await.expect("write");
    refused(write("a/1", None, Some("y")).await, FaultKind::Conflict);
    let second = write("a/1", Some(first), Some("y")).await.expect("change");
    assert!(second > first);
    refused(write("a/1", Some(first), Some("z")).await, FaultKind::Conflict);
    let now = documents.document("a/1".into()).await.expect("read").expect("is there");
    assert_eq!((now.version, now.body.as_slice()), (second, b"y".as_slice()), "a refusal changes nothing");
    write("a/1", Some(second), None).await.expect("remove");
    assert_eq!(documents.document("a/1".into()).await.expect("read"), None);
    refused(write("a/1", Some(second), Some("z")).await, FaultKind::Conflict);
    assert!(write("a/1", None, Some("again")).await.expect("write again") > second);
}

/// Lists are by prefix and in order; wrong keys and too large bodies are refused.
pub async fn documents_are_found_by_prefix(documents: &dyn Documents) {
    for key in ["b/2", "b/1", "bb/1", "b/1/x", "c"] {
        documents.write_document(key.into(), None, Some(key.as_bytes().to_vec())).await.expect("write");
    }
    let removed = documents.write_document("b/3".into(), None, Some(vec![])).await.expect("write");
    documents.write_document("b/3".into(), Some(removed), None).await.expect("remove");
    let found: Vec<String> = documents.documents("b/".into()).await.expect("list").into_iter().map(|(key, _)| key).collect();
    assert_eq!(found, ["b/1", "b/1/x", "b/2"]);
    for key in ["", "A", "a b", "a%", &"x".repeat(201)] {
        refused(documents.write_document(key.into(), None, Some(vec![])).await, FaultKind::InvalidRequest);
    }
    refused(documents.write_document("big".into(), None, Some(vec![0; DOCUMENT_BYTES + 1])).await, FaultKind::InvalidRequest);
    documents.write_document("big".into(), None, Some(vec![0; DOCUMENT_BYTES])).await.expect("the largest");
}
