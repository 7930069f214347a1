//! The person's settings, the MMLU questions they chose, and the hashes of model files that were computed before.

use rusqlite::{OptionalExtension, params};

use super::{Store, from_json, json};
use crate::api::{ApiError, Settings};
use crate::mmlu_sources::MmluChoice;

impl Store {
    /// The settings; the default until some were saved.
    pub(crate) fn settings(&self) -> Result<Settings, ApiError> {
        self.read(|c| {
            c.query_row(
                "SELECT value FROM settings WHERE key = 'settings'",
                [],
                |row| from_json(row, "value"),
            )
            .optional()
        })
        .map(Option::unwrap_or_default)
    }

    /// Keeps the settings.
    pub(crate) fn save_settings(&self, settings: &Settings) -> Result<(), ApiError> {
        self.write(|c| {
            c.execute(
                "INSERT OR REPLACE INTO settings (key, value) VALUES ('settings', ?1)",
                [json(settings)],
            )
        })
        .map(|_| ())
    }

    /// The MMLU questions that the person chose; none are the starter pack's.
    pub(crate) fn mmlu_choice(&self) -> Result<Option<MmluChoice>, ApiError> {
        self.read(|c| {
            c.query_row("SELECT value FROM settings WHERE key = 'mmlu'", [], |row| {
                from_json(row, "value")
            })
            .optional()
        })
    }

    /// Keeps the choice of MMLU questions.
    pub(crate) fn save_mmlu_choice(&self, choice: Option<&MmluChoice>) -> Result<(), ApiError> {
        self.write(|c| match choice {
            Some(choice) => c.execute(
                "INSERT OR REPLACE INTO settings (key, value) VALUES ('mmlu', ?1)",
                [json(choice)],
            ),
            None => c.execute("DELETE FROM settings WHERE key = 'mmlu'", []),
        })
        .map(|_| ())
    }

    /// The order in which models were first used, after those of `models` that were not in it were put at its end.
    pub(crate) fn know_models(&self, models: &[String]) -> Result<Vec<String>, ApiError> {
        const KEY: &str = "model_identities";
        let kept = |c: &rusqlite::Connection| {
            c.query_row("SELECT value FROM settings WHERE key = ?1", [KEY], |row| {
                from_json::<Vec<String>>(row, "value")
            })
            .optional()
            .map(Option::unwrap_or_default)
        };
        let order = self.read(kept)?;
        if models.iter().all(|model| order.contains(model)) {
            return Ok(order);
        }
        // Read again inside the transaction: another process may have added some meanwhile.
        self.write(|c| {
            let mut order = kept(c)?;
            for model in models {
                if !order.contains(model) {
                    order.push(model.clone());
                }
            }
            c.execute(
                "INSERT OR REPLACE INTO settings (key, value) VALUES (?1, ?2)",
                [KEY, &json(&order)],
            )?;
            Ok(order)
        })
    }

    /// The hash of a file as it was with this size and time.
    pub(crate) fn known_hash(
        &self,
        path: &str,
        bytes: u64,
        mtime_ns: i64,
    ) -> Result<Option<String>, ApiError> {
        self.read(|c| {
            c.query_row(
                "SELECT sha256 FROM hashes WHERE path = ?1 AND bytes = ?2 AND mtime_ns = ?3",
                params![path, bytes as i64, mtime_ns],
                |row| row.get(0),
            )
            .optional()
        })
    }

    /// Keeps the hash of a file.
    pub(crate) fn keep_hash(
        &self,
        path: &str,
        bytes: u64,
        mtime_ns: i64,
        sha256: &str,
    ) -> Result<(), ApiError> {
        self.write(|c| {
            c.execute(
                "INSERT OR REPLACE INTO hashes (path, bytes, mtime_ns, sha256) VALUES (?1, ?2, ?3, ?4)",
                params![path, bytes as i64, mtime_ns, sha256],
            )
        })
        .map(|_| ())
    }
}
