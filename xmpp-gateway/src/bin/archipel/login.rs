//! Who logs in where: from the environment, else from `~/.config/archipel/cli.toml`.

use archipel_contract::{CellName, Fault, FaultKind};
use archipel_xmpp::client::tls::{Pinned, Trust};
use serde::Deserialize;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where values come from; tests bring their own.
pub(crate) struct Surroundings<'a> {
    /// A variable of the environment.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    /// The folder of our configuration.
    pub(crate) folder: Option<PathBuf>,
}

/// Who logs in where.
pub(crate) struct Login {
    /// The local part of the JID.
    pub(crate) user: String,
    /// Its domain.
    pub(crate) domain: String,
    /// The password.
    pub(crate) password: String,
    /// `host:port` of each exchange of the cell; one of them serves.
    pub(crate) servers: Vec<String>,
    /// Where the web server is that opens consoles: `http://host:port`.
    pub(crate) page: String,
    /// The cell that is asked.
    pub(crate) cell: CellName,
    /// How the server is known.
    pub(crate) trust: Arc<dyn Trust>,
    /// What the person should know.
    pub(crate) warnings: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    jid: Option<String>,
    password_file: Option<PathBuf>,
    server: Option<String>,
    page: Option<String>,
    fingerprint: Option<String>,
    cell: Option<String>,
}

/// The folder of our configuration: `$XDG_CONFIG_HOME/archipel` or `~/.config/archipel`.
pub(crate) fn folder(variable: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config"))).map(|config| config.join("archipel"))
}

impl Login {
    /// Reads everything, or says what is missing.
    pub(crate) fn read(around: &Surroundings<'_>) -> Result<Login, Fault> {
        let set = |name: &str| (around.variable)(name).filter(|v| !v.is_empty());
        let mut warnings = Vec::new();
        let file = match &around.folder {
            Some(folder) => read_file(&folder.join("cli.toml"))?,
            None => File::default(),
        };
        let jid = set("ARCHIPEL_JID").or(file.jid).ok_or_else(|| {
            Fault::invalid(
                "nobody is logged in: set ARCHIPEL_JID and ARCHIPEL_PASSWORD_FILE, or write jid and password_file into ~/.config/archipel/cli.toml",
            )
        })?;
        let bare = jid.split('/').next().unwrap_or_default();
        let (user, domain) = bare
            .split_once('@')
            .filter(|(user, domain)| !user.is_empty() && !domain.is_empty())
            .ok_or_else(|| Fault::invalid(format!("{jid:?} is not a JID such as admin@vm.localhost")))?;
        let password = match (set("ARCHIPEL_PASSWORD"), set("ARCHIPEL_PASSWORD_FILE").map(PathBuf::from).or(file.password_file)) {
            (Some(password), _) => password,
            (None, Some(path)) => read_password(&path, around.folder.as_deref(), &mut warnings)?,
            (None, None) => {
                return Err(Fault::invalid(format!(
                    "there is no password for {bare}: set ARCHIPEL_PASSWORD_FILE, or write password_file into ~/.config/archipel/cli.toml"
                )));
            }
        };
        let cell = set("ARCHIPEL_CELL").or(file.cell).unwrap_or_else(|| domain.to_owned());
        let local = domain == "localhost" || domain.ends_with(".localhost");
        let named = set("ARCHIPEL_SERVER").or(file.server).unwrap_or_default();
        let mut servers: Vec<String> = named.split(',').map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect();
        if servers.is_empty() {
            servers.push(if local { "127.0.0.1:5222".to_owned() } else { format!("{domain}:5222") });
        }
        let page = set("ARCHIPEL_PAGE").or(file.page).unwrap_or_else(|| {
            let host = servers[0].rsplit_once(':').map_or(&*servers[0], |(host, _)| host);
            format!("http://{host}:8080")
        });
        let trust: Arc<dyn Trust> = match file.fingerprint {
            Some(fingerprint) => Arc::new(Pinned::new(&fingerprint)?),
            None => Arc::new(KnownServers { file: around.folder.as_ref().map(|f| f.join("known_servers")) }),
        };
        Ok(Login {
            user: user.to_owned(),
            domain: domain.to_owned(),
            password,
            servers,
            page,
            cell: cell.parse().map_err(|e: archipel_contract::id::BadId| Fault::invalid(e.to_string()))?,
            trust,
            warnings,
        })
    }
}

fn read_file(path: &Path) -> Result<File, Fault> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(File::default()),
        Err(error) => return Err(Fault::invalid(format!("{} cannot be read", path.display())).because(error)),
    };
    toml::from_str(&text).map_err(|e| {
        Fault::invalid(format!("{} is not right: {}", path.display(), e.message()))
            .because("it may hold jid, password_file, server, fingerprint and cell")
    })
}

fn read_password(path: &Path, folder: Option<&Path>, warnings: &mut Vec<String>) -> Result<String, Fault> {
    // Beside the file that names it, if it is not an absolute path.
    let beside = folder.map(|f| f.join(path)).filter(|p| path.is_relative() && p.exists());
    let path = beside.as_deref().unwrap_or(path);
    let unreadable = |e: std::io::Error| Fault::invalid(format!("the password file {} cannot be read", path.display())).because(e);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode();
        if mode & 0o077 != 0 {
            warnings.push(format!("others can read the password file; run chmod 600 {}", path.display()));
        }
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    match text.lines().next().filter(|line| !line.is_empty()) {
        Some(line) => Ok(line.to_owned()),
        None => Err(Fault::invalid(format!("the password file {} is empty", path.display()))),
    }
}

/// Certificates seen before, one line `server fingerprint` each. A server seen for the first time is believed and remembered;
/// another certificate later is refused.
struct KnownServers {
    file: Option<PathBuf>,
}

impl Trust for KnownServers {
    fn check(&self, server: &str, fingerprint: &str) -> Result<(), Fault> {
        let Some(file) = &self.file else {
            return Err(Fault::new(FaultKind::Forbidden, "there is no home folder to remember the server's certificate in; set HOME"));
        };
        let known = fs::read_to_string(file).unwrap_or_default();
        let before = known.lines().filter_map(|line| line.split_once(' ')).find(|(name, _)| *name == server);
        match before {
            Some((_, print)) if print.trim() == fingerprint => Ok(()),
            Some((_, print)) => Err(Fault::new(
                FaultKind::Forbidden,
                format!(
                    "the certificate of {server} changed from {} to {fingerprint}; if that was meant to be, remove its line from {}",
                    print.trim(),
                    file.display()
                ),
            )),
            None => {
                remember(file, server, fingerprint).map_err(|e| {
                    Fault::new(FaultKind::Forbidden, format!("the certificate of {server} cannot be remembered in {}", file.display()))
                        .because(e)
                })?;
                let _ = writeln!(
                    std::io::stderr(),
                    "archipel: {server} is new here; from now on only its certificate {fingerprint} is believed"
                );
                Ok(())
            }
        }
    }
    fn insists(&self) -> bool {
        false
    }
}

fn remember(file: &Path, server: &str, fingerprint: &str) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = fs::OpenOptions::new().append(true).create(true).open(file)?;
    file.write_all(format!("{server} {fingerprint}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)], folder: Option<&Path>) -> Result<Login, Fault> {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Login::read(&Surroundings { variable: &variable, folder: folder.map(Path::to_path_buf) })
    }

    #[test]
    fn the_environment_alone_is_enough() {
        let login = read(&[("ARCHIPEL_JID", "admin@vm.localhost/x"), ("ARCHIPEL_PASSWORD", "s")], None).expect("it is complete");
        assert_eq!((login.user.as_str(), login.domain.as_str(), login.servers[0].as_str()), ("admin", "vm.localhost", "127.0.0.1:5222"));
        let login = read(&[("ARCHIPEL_JID", "a@vm.example.org"), ("ARCHIPEL_PASSWORD", "s")], None).expect("it is complete");
        assert_eq!(login.servers, ["vm.example.org:5222"]);
        let several = [("ARCHIPEL_JID", "a@vm.example.org"), ("ARCHIPEL_PASSWORD", "s"), ("ARCHIPEL_SERVER", "a:1, b:2,")];
        assert_eq!(read(&several, None).expect("it is complete").servers, ["a:1", "b:2"]);
    }

    #[test]
    fn the_file_is_used_and_the_environment_wins() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("cli.toml"), "jid = 'admin@vm.localhost'\npassword_file = 'pw'\nserver = '127.0.0.1:7'\n")
            .expect("written");
        fs::write(folder.path().join("pw"), "secret\n").expect("written");
        let login = read(&[], Some(folder.path())).expect("it is complete");
        assert_eq!((login.password.as_str(), login.servers[0].as_str()), ("secret", "127.0.0.1:7"));
        let login = read(&[("ARCHIPEL_SERVER", "h:1"), ("ARCHIPEL_PASSWORD", "other")], Some(folder.path())).expect("it is complete");
        assert_eq!((login.password.as_str(), login.servers[0].as_str()), ("other", "h:1"));
    }

    #[test]
    fn a_password_others_can_read_is_warned_about() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pw");
        fs::write(&path, "secret").expect("written");
        for (mode, warnings) in [(0o644, 1), (0o600, 0)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
            let login = read(&[("ARCHIPEL_JID", "a@vm.localhost"), ("ARCHIPEL_PASSWORD_FILE", &path.to_string_lossy())], None)
                .expect("it is complete");
            assert_eq!(login.warnings.len(), warnings, "{mode:o}");
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("cli.toml"), "jdi = 'admin@vm.localhost'\n").expect("written");
        for (variables, place, word) in [
            (vec![], None, "ARCHIPEL_JID"),
            (vec![("ARCHIPEL_JID", "admin@vm.localhost")], None, "ARCHIPEL_PASSWORD_FILE"),
            (vec![("ARCHIPEL_JID", "admin")], None, "is not a JID"),
            (vec![("ARCHIPEL_JID", "a@vm.localhost"), ("ARCHIPEL_PASSWORD_FILE", "/nowhere/pw")], None, "/nowhere/pw"),
            (vec![], Some(folder.path()), "jdi"),
        ] {
            let fault = read(&variables, place).err().expect("something is wrong");
            assert_eq!(fault.kind, FaultKind::InvalidRequest);
            assert!(fault.message.contains(word), "{fault}");
        }
    }

    #[test]
    fn a_server_is_remembered_and_a_change_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let known = KnownServers { file: Some(folder.path().join("deep/known_servers")) };
        assert!(known.check("a:1", "AA").is_ok());
        assert!(known.check("b:1", "BB").is_ok());
        assert!(known.check("a:1", "AA").is_ok());
        assert_eq!(known.check("a:1", "CC").err().map(|f| f.kind), Some(FaultKind::Forbidden));
    }
}
