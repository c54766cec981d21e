//! Who may talk to etcd: certificates and users.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod etcd_cluster;

use archipel_contract::port::{Authority, Documents};
use archipel_contract::{FaultKind, Millis};
use archipel_store::EtcdConfig;
use etcd_client::{Client, Permission, PermissionType};
use etcd_cluster::{Cluster, address};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use std::path::{Path, PathBuf};

/// Writes an authority's certificate, and one with key for each name that it signed.
fn certificates(folder: &Path, names: &[(&str, &str)]) -> PathBuf {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = folder.join("ca.pem");
    std::fs::write(&ca, params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    for (file, name) in names {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![(*name).to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        std::fs::write(folder.join(format!("{file}.pem")), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        std::fs::write(folder.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }
    ca
}

#[tokio::test]
async fn over_tls_both_sides_show_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let at = |file: &str| folder.path().join(file);
    let ca = certificates(folder.path(), &[("member", &address()), ("client", "exchange")]);
    let argument = |name: &str, file: &Path| format!("--{name}={}", file.display());
    let more = [
        argument("cert-file", &at("member.pem")),
        argument("key-file", &at("member.key")),
        argument("trusted-ca-file", &ca),
        "--client-cert-auth".to_owned(),
    ];
    let Some(cluster) = Cluster::begin(1, &more) else { return };
    let good = EtcdConfig { ca_file: Some(ca), cert_file: Some(at("client.pem")), key_file: Some(at("client.key")), ..cluster.config() };
    let etcd = cluster.open(&good);
    cluster.wait_until_it_answers(&etcd).await;
    assert_eq!(etcd.incarnation().await.unwrap(), 1);
    // Without a certificate, and with a foreign authority, nothing is said.
    let nameless = cluster.open(&EtcdConfig { cert_file: None, key_file: None, timeout: Millis(1000), ..good.clone() });
    assert_eq!(nameless.incarnation().await.unwrap_err().kind, FaultKind::Unavailable);
    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = certificates(elsewhere.path(), &[]);
    let deceived = cluster.open(&EtcdConfig { ca_file: Some(foreign), timeout: Millis(1000), ..good });
    assert_eq!(deceived.incarnation().await.unwrap_err().kind, FaultKind::Unavailable);
    assert_eq!(etcd.incarnation().await.unwrap(), 2);
}

#[tokio::test]
async fn a_user_may_touch_the_keys_of_its_cell_and_no_others() {
    let Some(cluster) = Cluster::start(1).await else { return };
    let mut admin = Client::connect(cluster.endpoints(), None).await.unwrap();
    for user in ["root", "archipel"] {
        admin.role_add(user).await.unwrap();
        admin.user_add(user, "secret", None).await.unwrap();
        admin.user_grant_role(user, user).await.unwrap();
    }
    let cell = Permission::new(PermissionType::Readwrite, "/archipel/vm.localhost/").with_prefix();
    admin.role_grant_permission("archipel", cell).await.unwrap();
    admin.auth_enable().await.unwrap();

    let file = |name: &str, text: &str| {
        let path = cluster.folder().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    let good = EtcdConfig { user: Some("archipel".into()), password_file: file("good", "secret\n"), ..cluster.config() };
    let etcd = cluster.open(&good);
    assert_eq!(etcd.incarnation().await.unwrap(), 1);
    etcd.write_document("x".into(), None, Some(vec![1])).await.unwrap();
    let lead = etcd.lead("exchange".into(), "one".into(), Millis::seconds(2), archipel_contract::Timestamp(0));
    assert_eq!(lead.await.unwrap().epoch.0, 1);
    assert_eq!(etcd.documents(String::new()).await.unwrap().len(), 1);
    // Rights that change make etcd disown every session; nobody has to start again because of that.
    let root = etcd_client::ConnectOptions::new().with_user("root", "secret");
    let mut root = Client::connect(cluster.endpoints(), Some(root)).await.unwrap();
    let more = Permission::new(PermissionType::Read, "/somewhere/").with_prefix();
    root.role_grant_permission("archipel", more).await.unwrap();
    root.user_add("another", "one", None).await.unwrap();
    assert_eq!(etcd.incarnation().await.unwrap(), 2);
    for (what, word, config) in [
        ("nobody", "`etcdctl user list`", cluster.config()),
        ("a wrong password", "does not let archipel in", EtcdConfig { password_file: file("wrong", "guess"), ..good.clone() }),
        ("another cell", "grant-permission", EtcdConfig { prefix: "/archipel/other/".into(), ..good }),
    ] {
        let fault = cluster.open(&config).incarnation().await.expect_err(what);
        assert_eq!(fault.kind, FaultKind::Forbidden, "{what}: {fault}");
        assert!(fault.message.contains(word), "{what}: {fault}");
        assert!(!fault.to_string().contains("secret") && !fault.to_string().contains("guess"), "{fault}");
    }
}
