//! The connection: lock, checks, migrations, and SQLite's errors put into words.

use archipel_contract::{Fault, FaultKind, Millis, Timestamp};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The steps from an empty file to today's tables; `user_version` counts those already taken. Never edit one that was released.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_first.sql"),
    include_str!("../migrations/0002_hold.sql"),
    include_str!("../migrations/0003_operation_index.sql"),
    include_str!("../migrations/0004_holding.sql"),
];

/// Done operations are forgotten after this time.
pub(crate) const KEEP: Millis = Millis::seconds(24 * 3600);
/// They are looked for at most this often, and only when something was written.
pub(crate) const TIDY: Millis = Millis::seconds(3600);

/// Who opens the file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// The daemon: it alone may hold the lock.
    Daemon,
    /// A short command beside it.
    Command,
}

pub(crate) struct Database {
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
    /// The newest time any operation carried; the store has no clock of its own.
    pub(crate) newest: Timestamp,
    tidied: Timestamp,
    /// Held for as long as the file is open; the kernel releases it when the process dies, however it dies.
    _lock: Option<File>,
}

impl Database {
    pub(crate) fn open(data_dir: &Path, usage: Use) -> Result<Database, Fault> {
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(|e| {
            Fault::unavailable(format!("cannot create {}; set data_dir to a folder that archipeld may write", data_dir.display()))
                .because(e)
        })?;
        let lock = match usage {
            Use::Daemon => Some(lock(data_dir)?),
            Use::Command => None,
        };
        let path = data_dir.join("archipel.db");
        // SQLite would create it with the process's umask; it holds the keys of accounts. Its companions inherit the mode.
        private_file(&path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(|e| explain(&path, e))?;
        let mut database = Database { connection, path, newest: Timestamp(0), tidied: Timestamp(0), _lock: lock };
        database.prepare().map_err(|e| explain(&database.path, e))?;
        database.migrate()?;
        Ok(database)
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        let db = &self.connection;
        db.busy_timeout(Duration::from_secs(5))?;
        db.set_prepared_statement_cache_capacity(32);
        db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        db.pragma_update(None, "synchronous", "NORMAL")?;
        db.pragma_update(None, "foreign_keys", true)?;
        db.pragma_update(None, "cache_size", -1024)?;
        db.pragma_update_and_check(None, "journal_size_limit", 4 << 20, |_| Ok(()))?;
        let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if verdict == "ok" {
            Ok(())
        } else {
            let code = rusqlite::ffi::Error { code: ErrorCode::DatabaseCorrupt, extended_code: 11 };
            Err(rusqlite::Error::SqliteFailure(code, Some(verdict)))
        }
    }

    fn migrate(&mut self) -> Result<(), Fault> {
        let path = self.path.clone();
        let explain = |e| explain(&path, e);
        // Immediate: a command and a daemon that start together must not both create the tables.
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(explain)?;
        let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(explain)?;
        let known = MIGRATIONS.len();
        let taken = usize::try_from(version).unwrap_or(usize::MAX);
        if taken > known {
            return Err(Fault::new(
                FaultKind::Unsupported,
                format!(
                    "{} was written by a newer archipeld (its version is {version}, this one knows {known}); install that one or a later one",
                    path.display()
                ),
            ));
        }
        for step in &MIGRATIONS[taken..] {
            transaction.execute_batch(step).map_err(explain)?;
        }
        if taken < known {
            transaction.pragma_update(None, "user_version", known as i64).map_err(explain)?;
        }
        transaction.commit().map_err(explain)
    }

    /// Puts an error of SQLite into words.
    pub(crate) fn explain(&self, error: rusqlite::Error) -> Fault {
        explain(&self.path, error)
    }

    /// Runs `work` in one transaction that holds the write lock from its beginning, so that reads in it stay true.
    pub(crate) fn transact<T>(&mut self, work: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T, Refusal>) -> Result<T, Fault> {
        let path = &self.path;
        let outcome = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(Refusal::from).and_then(|t| {
            let value = work(&t)?;
            t.commit()?;
            Ok(value)
        });
        outcome.map_err(|refusal| match refusal {
            Refusal::Fault(fault) => fault,
            Refusal::Sqlite(error) => explain(path, error),
        })
    }

    /// Forgets old operations, at most once an hour of the operations' own time, after the answer was given.
    pub(crate) fn tidy(&mut self) {
        if self.newest.0 < self.tidied.0.saturating_add(TIDY.0) {
            return;
        }
        self.tidied = self.newest;
        let before = Timestamp(self.newest.0.saturating_sub(KEEP.0));
        if let Err(fault) = self.forget_before(before) {
            tracing::warn!(%fault, "cannot forget old operations");
        }
    }
}

/// Why a transaction was given up: our reason or SQLite's.
pub(crate) enum Refusal {
    Fault(Fault),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Refusal::Sqlite(error)
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Refusal::Fault(fault)
    }
}

fn cannot_write(path: &Path) -> Fault {
    Fault::unavailable(format!("cannot write {}; give its folder to the user of archipeld, or set data_dir to another one", path.display()))
}

/// Opens a file that only its owner reads, and creates it if it must. When the administrator creates it in the daemon's folder,
/// it becomes the daemon's: otherwise the first account made before the first start would lock the daemon out.
fn private_file(path: &Path) -> Result<File, Fault> {
    let fault = |e| cannot_write(path).because(e);
    let existed = path.exists();
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path).map_err(fault)?;
    if let (false, Some(folder)) = (existed, path.parent()) {
        let (folder, own) = (folder.metadata().map_err(fault)?, file.metadata().map_err(fault)?);
        if (folder.uid(), folder.gid()) != (own.uid(), own.gid()) && own.uid() == 0 {
            fchown(&file, Some(folder.uid()), Some(folder.gid())).map_err(fault)?;
        }
    }
    Ok(file)
}

fn lock(data_dir: &Path) -> Result<File, Fault> {
    let path = data_dir.join("archipel.lock");
    let mut file = private_file(&path)?;
    match file.try_lock() {
        Ok(()) => {
            // For the message of whoever comes second; a failure to write it harms nobody.
            let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let who = if pid.is_empty() { String::new() } else { format!(" (process {pid})") };
            Err(Fault::busy(format!(
                "{} is in use by another archipeld{who}; stop it, or set data_dir to another folder",
                data_dir.display()
            )))
        }
        Err(TryLockError::Error(e)) => Err(cannot_write(&path).because(e)),
    }
}

fn explain(path: &Path, error: rusqlite::Error) -> Fault {
    let at = path.display();
    let code = match &error {
        rusqlite::Error::SqliteFailure(code, _) => code.code,
        _ => ErrorCode::Unknown,
    };
    let fault = match code {
        ErrorCode::DiskFull => Fault::unavailable(format!("no space left for {at}; free some and try again")),
        ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied => cannot_write(path),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            Fault::busy(format!("{at} is locked by another process; try again in a moment"))
        }
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Fault::internal(format!(
            "{at} is damaged; move it and its -wal and -shm files aside or restore a copy, and start again (guests are not \
             affected; accounts must be added again)"
        )),
        ErrorCode::SystemIoFailure => Fault::unavailable(format!("cannot read or write {at}; check the disk")),
        _ => Fault::internal(format!("the data in {at} cannot be used as it should; please report this")),
    };
    fault.because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_and_what_was_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Database::open(dir.path(), Use::Daemon).unwrap();
        let pages: i64 = db.connection.query_row("PRAGMA page_count", [], |r| r.get(0)).unwrap();
        db.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
        let big = vec![0u8; 1 << 20];
        let fault = db
            .transact(|t| {
                t.execute("INSERT INTO ownership (domain, epoch, owner) VALUES (?1, 1, 'a')", [big])?;
                Ok(())
            })
            .unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unavailable);
        assert!(fault.message.contains("no space left") && fault.message.contains("archipel.db"), "{fault}");
        let rows: i64 = db.connection.query_row("SELECT count(*) FROM ownership", [], |r| r.get(0)).unwrap();
        assert_eq!(rows, 0);
    }

    #[test]
    fn the_file_of_a_newer_version_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        Database::open(dir.path(), Use::Daemon).unwrap().connection.pragma_update(None, "user_version", 99).unwrap();
        let fault = Database::open(dir.path(), Use::Daemon).err().unwrap();
        assert_eq!(fault.kind, FaultKind::Unsupported);
        assert!(fault.message.contains("99"), "{fault}");
    }
}
