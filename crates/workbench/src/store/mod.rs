//! The one SQLite file that outlives everything: hashes of models, jobs, runs with their samples, scorecards, chats,
//! settings. Window and command line share it (WAL, busy timeout).
//!
//! A store that is damaged or was written by a newer Billion is refused and never touched.

mod chats;
mod completions;
mod finetunes;
mod jobs;
mod runs;
mod scorecards;
mod settings;
mod time_lapses;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};

use crate::api::ApiError;

pub(crate) use completions::{CompletionRow, Judged};
pub(crate) use finetunes::{AnswerRow, Answerer, FinetuneRow, NewFinetune, Purpose};
pub(crate) use jobs::{JobRow, NewJob, Stop};
pub(crate) use runs::{NewRun, RunFilter, RunRow};
pub(crate) use scorecards::ScorecardRowStored;
pub(crate) use time_lapses::PointRow;

/// Name of the file in the data folder.
pub(crate) const FILE: &str = "billion.sqlite3";

/// One entry a version: what leads to it from the version before. Never edited once released.
const MIGRATIONS: &[&str] = &[
    include_str!("001.sql"),
    include_str!("002.sql"),
    include_str!("003.sql"),
    include_str!("004.sql"),
    include_str!("005.sql"),
    include_str!("006.sql"),
    include_str!("007.sql"),
];

/// Marks the file as ours ("Bill"), so that another program's database is not mistaken for a store.
const APPLICATION_ID: i32 = 0x4269_6C6C;

/// How long a statement waits for another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// An open store.
pub(crate) struct Store {
    connection: Mutex<Connection>,
    path: PathBuf,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens or makes the store in a folder, and brings it to this version.
    pub(crate) fn open(folder: &Path) -> Result<Self, ApiError> {
        std::fs::create_dir_all(folder).map_err(|error| {
            ApiError::failed(format!("the data folder {} cannot be made: {error}; set BILLION_DATA to a folder you may write", folder.display()))
        })?;
        let path = folder.join(FILE);
        let fresh = std::fs::metadata(&path).map_or(true, |status| status.len() == 0);
        let mut connection = Connection::open(&path).map_err(|e| unreadable(&path, &e))?;
        connection
            .busy_timeout(BUSY_TIMEOUT)
            .map_err(|e| unreadable(&path, &e))?;
        // In one transaction, so that another process that is making the store right now is seen before or after, never
        // half way.
        let (version, id, tables) = look(&mut connection).map_err(|e| unreadable(&path, &e))?;
        if version > MIGRATIONS.len() as i64 {
            return Err(ApiError::failed(format!(
                "the store {} was written by a newer Billion (version {version}, this one knows {}); update Billion, nothing was changed",
                path.display(),
                MIGRATIONS.len()
            )));
        }
        if tables > 0 && id != APPLICATION_ID {
            return Err(ApiError::failed(format!(
                "{} is a database of another program; move it away or set BILLION_DATA to another folder, nothing was changed",
                path.display()
            )));
        }
        if !fresh {
            // A quick look at the structure; a damaged page that it misses gives a clear error when it is read.
            let verdict: String = connection
                .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
                .map_err(|e| unreadable(&path, &e))?;
            if verdict != "ok" {
                return Err(ApiError::failed(format!(
                    "the store {} is damaged ({verdict}); move it away to start anew, or restore it from a backup: nothing was changed",
                    path.display()
                )));
            }
        }
        write_ahead(&connection).map_err(|e| unreadable(&path, &e))?;
        connection
            .pragma_update(None, "foreign_keys", true)
            .map_err(|e| unreadable(&path, &e))?;
        connection
            .pragma_update(None, "synchronous", "NORMAL")
            .map_err(|e| unreadable(&path, &e))?;
        migrate(&mut connection).map_err(|e| unreadable(&path, &e))?;
        Ok(Self {
            connection: Mutex::new(connection),
            path,
        })
    }

    /// Changes whenever any process changes the store through another connection.
    pub(crate) fn data_version(&self) -> Result<i64, ApiError> {
        self.read(|c| c.query_row("PRAGMA data_version", [], |row| row.get(0)))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one or more statements that need no transaction.
    fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, ApiError> {
        work(&self.lock()).map_err(|e| self.failure(&e))
    }

    /// Runs statements in one transaction that holds the writer's place from the start.
    fn write<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, ApiError> {
        let mut connection = self.lock();
        let done = (|| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })();
        done.map_err(|e| self.failure(&e))
    }

    fn failure(&self, error: &rusqlite::Error) -> ApiError {
        use rusqlite::ErrorCode as Sql;
        let next = match error.sqlite_error_code() {
            Some(Sql::DiskFull | Sql::SystemIoFailure) => "; free some space and try again",
            Some(Sql::DatabaseBusy | Sql::DatabaseLocked) => {
                "; another process has held it for 10 s, try again"
            }
            Some(Sql::ReadOnly | Sql::PermissionDenied) => {
                "; make the folder writable or set BILLION_DATA to another"
            }
            _ => "",
        };
        ApiError::failed(format!("the store {}: {error}{next}", self.path.display()))
    }
}

/// Switches to the write-ahead log. SQLite does not wait for others here, whatever the busy timeout, so this does.
fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let start = Instant::now();
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
                    && start.elapsed() < BUSY_TIMEOUT =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            outcome => return outcome,
        }
    }
}

/// Version, application id and number of tables, at one moment.
fn look(connection: &mut Connection) -> rusqlite::Result<(i64, i32, i64)> {
    let moment = connection.transaction()?;
    let tables = moment.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
    let version = moment.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let id = moment.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    Ok((version, id, tables))
}

fn unreadable(path: &Path, error: &rusqlite::Error) -> ApiError {
    use rusqlite::ErrorCode as Sql;
    let why = match error.sqlite_error_code() {
        Some(Sql::NotADatabase | Sql::DatabaseCorrupt) => {
            "is damaged or no database; move it away to start anew, or restore it from a backup: nothing was changed"
        }
        Some(Sql::CannotOpen | Sql::PermissionDenied | Sql::ReadOnly) => {
            "cannot be opened; make the folder writable or set BILLION_DATA to another"
        }
        Some(Sql::DiskFull) => {
            "cannot be written; free some space, or set BILLION_DATA to a folder on another disk"
        }
        Some(Sql::SystemIoFailure) => {
            "cannot be used: its disk is full or fails; free some space, or set BILLION_DATA to a folder on another disk"
        }
        Some(Sql::DatabaseBusy | Sql::DatabaseLocked) => {
            "cannot be opened: another process has held it for 10 s; try again"
        }
        _ => "cannot be opened",
    };
    ApiError::failed(format!("the store {} {why} ({error})", path.display()))
}

/// Each step in a transaction of its own; a second process that opens at the same time finds it done.
fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    loop {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: usize = transaction
            .query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))
            .map(|v| v as usize)?;
        let Some(step) = MIGRATIONS.get(version) else {
            return Ok(());
        };
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", (version + 1) as i64)?;
        transaction.commit()?;
    }
}

/// JSON text of a value that has string keys only.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("stored values have string keys only")
}

/// Reads a JSON column.
fn from_json<T: serde::de::DeserializeOwned>(
    row: &rusqlite::Row<'_>,
    column: &str,
) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// Reads an optional JSON column.
fn from_json_opt<T: serde::de::DeserializeOwned>(
    row: &rusqlite::Row<'_>,
    column: &str,
) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(
                0,
                rusqlite::types::Type::Text,
                Box::new(error),
            )
        })
}

#[cfg(test)]
mod tests;
