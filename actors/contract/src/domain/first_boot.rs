//! What a new machine is told at its first boot, in the words of cloud-init's data source NoCloud. Pure.
//!
//! Settings become a `#cloud-config` that a serializer writes: JSON, which is YAML too. A text of the person's own goes as it is,
//! checked only to be something that cloud-init takes at all: a `#cloud-config` that is not YAML would be skipped by the guest in
//! silence, and nobody could log in.

use super::yaml;
use crate::Fault;
use serde_json::{Value, json};

/// The most bytes of a text of one's own.
pub const TEXT_LIMIT: usize = 64 * 1024;
/// The most SSH keys.
const KEYS: usize = 100;

/// What is told, as it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FirstBoot {
    /// A user to be made.
    pub user: Option<String>,
    /// Public keys that let in.
    pub ssh_keys: Vec<String>,
    /// A password for the console.
    pub password: Option<String>,
    /// The guest's own name.
    pub hostname: Option<String>,
    /// The whole user-data instead.
    pub user_data: Option<String>,
    /// The whole network configuration.
    pub network_config: Option<String>,
}

/// How cloud-init tells what a user-data is: by how it begins.
const BEGINNINGS: [&str; 10] = [
    "#cloud-config",
    "#!",
    "#include",
    "#cloud-boothook",
    "#part-handler",
    "## template: jinja",
    "## template:jinja",
    "Content-Type: multipart/",
    "Content-Type: text/",
    "MIME-Version:",
];

fn of(word: &str, what: &str, why: &str) -> Fault {
    let shown: String = word.chars().take(80).collect();
    Fault::invalid(format!("{shown:?} cannot be {what}: {why}"))
}

impl FirstBoot {
    /// Refuses what cloud-init would not take, or what contradicts itself.
    pub fn check(&self) -> Result<(), Fault> {
        if let Some(user) = &self.user {
            let fits = user.len() <= 32
                && user.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
                && user.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
            if !fits {
                return Err(of(user, "a user", "use small letters, digits, _ and -, begin with a letter, at most 32"));
            }
        }
        if self.ssh_keys.len() > KEYS {
            return Err(Fault::invalid(format!("at most {KEYS} SSH keys can be given; put more into a --user-data")));
        }
        self.ssh_keys.iter().try_for_each(|key| check_key(key))?;
        if let Some(password) = &self.password
            && (password.is_empty() || password.len() > 256 || password.chars().any(char::is_control))
        {
            return Err(Fault::invalid("a password has 1 to 256 bytes and no control characters"));
        }
        if let Some(name) = &self.hostname {
            check_hostname(name)?;
        }
        if let Some(text) = &self.user_data {
            if self.user.is_some() || self.password.is_some() || !self.ssh_keys.is_empty() {
                return Err(Fault::invalid("--user-data stands for itself; put user, key and password into it, or leave it away"));
            }
            check_text("user-data", text)?;
            // An archive of parts (#cloud-config-archive) is a list, and its parts are anything.
            if text.lines().next().is_some_and(|first| first.trim_end() == "#cloud-config") {
                yaml::check_mapping("user-data", text)?;
            } else if !BEGINNINGS.iter().any(|b| text.starts_with(b)) {
                return Err(Fault::invalid(
                    "cloud-init would not know what this user-data is: its first line must be #cloud-config, #! and a program, #include, or \
                     the head of a MIME message",
                ));
            }
        }
        if let Some(text) = &self.network_config {
            check_text("network-config", text)?;
            yaml::check_mapping("network-config", text)?;
            if !text.contains("version") {
                return Err(Fault::invalid("a network-config says its version; begin it with `version: 2`"));
            }
        }
        Ok(())
    }

    /// Whether anybody is let in who could not get in before.
    pub fn lets_in(&self) -> bool {
        self.password.is_some() || !self.ssh_keys.is_empty() || self.user_data.is_some()
    }

    /// The user-data. `hash` is that of the password.
    pub fn user_data(&self, hash: Option<&str>) -> Result<String, Fault> {
        if let Some(text) = &self.user_data {
            return Ok(text.clone());
        }
        let mut config = json!({ "manage_etc_hosts": "localhost" });
        match &self.user {
            Some(user) => {
                let mut account = json!({
                    "name": user,
                    "sudo": "ALL=(ALL) NOPASSWD:ALL",
                    "shell": "/bin/bash",
                    "lock_passwd": hash.is_none(),
                });
                if let Some(hash) = hash {
                    account["passwd"] = hash.into();
                }
                if !self.ssh_keys.is_empty() {
                    account["ssh_authorized_keys"] = json!(self.ssh_keys);
                }
                config["users"] = json!([account]);
            }
            None => {
                if !self.ssh_keys.is_empty() {
                    config["ssh_authorized_keys"] = json!(self.ssh_keys);
                }
                if let Some(hash) = hash {
                    config["password"] = hash.into();
                    config["chpasswd"] = json!({ "expire": false });
                }
            }
        }
        Ok(format!("#cloud-config\n{}\n", written(&config)?))
    }

    /// The meta-data: which instance it is, and its name.
    pub fn meta_data(&self, instance: &str, machine: &str) -> Result<String, Fault> {
        let hostname = self.hostname.clone().unwrap_or_else(|| hostname_of(machine));
        Ok(format!("{}\n", written(&json!({ "instance-id": instance, "local-hostname": hostname }))?))
    }

    /// The files of the seed.
    pub fn files(&self, instance: &str, machine: &str, hash: Option<&str>) -> Result<Vec<(&'static str, String)>, Fault> {
        let mut files = vec![("user-data", self.user_data(hash)?), ("meta-data", self.meta_data(instance, machine)?)];
        files.extend(self.network_config.clone().map(|text| ("network-config", text)));
        Ok(files)
    }
}

fn written(value: &Value) -> Result<String, Fault> {
    serde_json::to_string_pretty(value).map_err(|e| Fault::internal("the seed could not be written; please report this").because(e))
}

fn check_text(what: &str, text: &str) -> Result<(), Fault> {
    if text.len() > TEXT_LIMIT {
        return Err(Fault::invalid(format!("the {what} has {} bytes and may have {TEXT_LIMIT}; let it fetch the rest", text.len())));
    }
    if text.trim().is_empty() || text.contains('\0') {
        return Err(Fault::invalid(format!("the {what} is empty or holds a zero byte; it must be a text")));
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), Fault> {
    if key.contains("PRIVATE KEY") {
        return Err(Fault::invalid("this is a private key: keep it, and give the public one, which is in the file that ends with .pub"));
    }
    const TYPES: [&str; 4] = ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-", "sk-"];
    let mut words = key.split_ascii_whitespace();
    let (kind, body) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let in_base64 = body.len() >= 16 && body.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
    if key.len() > 16 * 1024 || key.chars().any(char::is_control) || !TYPES.iter().any(|t| kind.starts_with(t)) || !in_base64 {
        return Err(of(key, "a public SSH key", "give the line of the file that ends with .pub, such as `ssh-ed25519 AAAA... me`"));
    }
    Ok(())
}

fn check_hostname(name: &str) -> Result<(), Fault> {
    let label = |l: &str| {
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && edge(l.bytes().next()) && edge(l.bytes().last())
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(of(name, "the name of a host", "use letters, digits and - between dots, at most 63 between two"));
    }
    Ok(())
}

/// The name a guest has for itself when nobody says: that of its machine, as far as the name of a host can be so.
pub fn hostname_of(machine: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let whole: String = machine.chars().map(fits).collect();
    let labels = whole.split('.').map(|l| l.chars().take(63).collect::<String>().trim_matches('-').to_owned());
    let name = labels.filter(|l| !l.is_empty()).collect::<Vec<_>>().join(".");
    if name.is_empty() { "machine".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExample me@desk";

    fn config(first: &FirstBoot, hash: Option<&str>) -> Value {
        let text = first.user_data(hash).unwrap();
        serde_json::from_str(text.strip_prefix("#cloud-config\n").unwrap()).unwrap()
    }

    #[test]
    fn a_user_gets_the_keys_and_the_hash() {
        let first = FirstBoot {
            user: Some("me".into()),
            ssh_keys: vec![KEY.into(), KEY.into()],
            password: Some("geheim".into()),
            ..FirstBoot::default()
        };
        let told = config(&first, Some("$6$salt$hash"));
        let user = &told["users"][0];
        assert_eq!((&user["name"], &user["passwd"], &user["lock_passwd"]), (&json!("me"), &json!("$6$salt$hash"), &json!(false)));
        assert_eq!(user["ssh_authorized_keys"], json!([KEY, KEY]));
        assert!(!told.to_string().contains("geheim"), "a password is never written down");
    }

    #[test]
    fn without_a_user_they_are_those_of_the_image() {
        let told = config(&FirstBoot { ssh_keys: vec![KEY.into()], ..FirstBoot::default() }, Some("$6$s$h"));
        assert_eq!((&told["ssh_authorized_keys"], &told["password"]), (&json!([KEY]), &json!("$6$s$h")));
        assert_eq!((&told["chpasswd"]["expire"], told.get("users")), (&json!(false), None));
    }

    #[test]
    fn a_text_of_ones_own_goes_as_it_is() {
        let text = "#cloud-config\nruncmd: [echo]\n";
        let first = FirstBoot { user_data: Some(text.into()), network_config: Some("version: 2\n".into()), ..FirstBoot::default() };
        first.check().unwrap();
        let files = first.files("id-1", "web_1", None).unwrap();
        assert_eq!(files[0], ("user-data", text.to_owned()));
        assert_eq!(serde_json::from_str::<Value>(&files[1].1).unwrap(), json!({"instance-id": "id-1", "local-hostname": "web-1"}));
        assert_eq!(files[2].0, "network-config");
    }

    #[test]
    fn what_cloud_init_would_not_take_is_refused() {
        let none = FirstBoot::default;
        let bad = [
            (FirstBoot { user: Some("Root User".into()), ..none() }, "a user"),
            (FirstBoot { user: Some(String::new()), ..none() }, "a user"),
            (FirstBoot { ssh_keys: vec!["hello".into()], ..none() }, "public SSH key"),
            (FirstBoot { ssh_keys: vec!["-----BEGIN OPENSSH PRIVATE KEY-----".into()], ..none() }, "private key"),
            (FirstBoot { ssh_keys: vec![KEY.into(); 101], ..none() }, "at most 100"),
            (FirstBoot { password: Some("a\nb".into()), ..none() }, "password"),
            (FirstBoot { password: Some(String::new()), ..none() }, "password"),
            (FirstBoot { hostname: Some("a b".into()), ..none() }, "name of a host"),
            (FirstBoot { hostname: Some("a..b".into()), ..none() }, "name of a host"),
            (FirstBoot { hostname: Some("w\u{435}b".into()), ..none() }, "name of a host"),
            (FirstBoot { user_data: Some("users: []".into()), ..none() }, "would not know"),
            (FirstBoot { user_data: Some(format!("#!{}", "x".repeat(TEXT_LIMIT))), ..none() }, "may have"),
            (FirstBoot { user_data: Some("#!/bin/sh".into()), user: Some("me".into()), ..none() }, "stands for itself"),
            (FirstBoot { network_config: Some("ethernets: {}".into()), ..none() }, "version"),
            (FirstBoot { network_config: Some(" \n".into()), ..none() }, "empty"),
            (FirstBoot { network_config: Some("version: 2\n bad: [".into()), ..none() }, "line 2"),
            (FirstBoot { user_data: Some("#cloud-config\nusers:\n  - name: [a\n".into()), ..none() }, "line"),
            (FirstBoot { user_data: Some("#cloud-config\n- a\n".into()), ..none() }, "line 2, column 1"),
        ];
        for (first, word) in bad {
            let fault = first.check().unwrap_err();
            assert!(fault.message.contains(word) && fault.message.len() < 400, "{fault}");
        }
        for good in [
            "#!/bin/sh\ntrue",
            "#include\nhttps://x",
            "Content-Type: multipart/mixed; boundary=x",
            "#cloud-config\n{}",
            "#cloud-config-archive\n- a",
        ] {
            assert!(FirstBoot { user_data: Some(good.into()), ..none() }.check().is_ok(), "{good}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_machine_is_called_its_guest_has_a_name(name in "[A-Za-z0-9][A-Za-z0-9._+-]{0,63}") {
            prop_assert_eq!(check_hostname(&hostname_of(&name)), Ok(()));
        }

        #[test]
        fn nothing_that_is_said_breaks_out_of_its_place(comment in "\\PC{0,40}", hash in "\\PC{1,40}") {
            let key = format!("ssh-rsa AAAAB3NzaC1yc2EAAAADAQAB {comment}");
            let told = config(&FirstBoot { ssh_keys: vec![key.clone()], user: Some("me".into()), ..FirstBoot::default() }, Some(&hash));
            prop_assert_eq!(&told["users"][0]["ssh_authorized_keys"][0], &json!(key));
            prop_assert_eq!(&told["users"][0]["passwd"], &json!(hash));
        }
    }
}
