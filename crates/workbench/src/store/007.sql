-- Fine-tunings: what was asked for, where training is, and what is known of the result. Figures of a finished one are its
-- run's as well.
CREATE TABLE finetunes (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at     REAL NOT NULL,
    name           TEXT NOT NULL,
    -- What commands take as MODEL for model and adapter together.
    tuned          TEXT NOT NULL UNIQUE,
    model          TEXT NOT NULL,
    model_name     TEXT NOT NULL,
    request        TEXT NOT NULL,
    -- Folder of an adapter that can be used; null before there is one.
    adapter        TEXT,
    adapter_sha256 TEXT,
    -- JSON: the step that training is at; what training gave; the report card as far as it is.
    progress       TEXT,
    trained        TEXT,
    card           TEXT,
    job            INTEGER NOT NULL DEFAULT 0,
    run            INTEGER REFERENCES runs(id) ON DELETE SET NULL
) STRICT;
CREATE INDEX finetunes_by_job ON finetunes (job);

-- Losses as they come. `held_out`: of the rows that training does not see.
CREATE TABLE finetune_losses (
    finetune INTEGER NOT NULL REFERENCES finetunes(id) ON DELETE CASCADE,
    held_out INTEGER NOT NULL,
    step     INTEGER NOT NULL,
    loss     REAL NOT NULL,
    PRIMARY KEY (finetune, held_out, step)
) STRICT, WITHOUT ROWID;

-- Rows of the dataset that are asked before and after. `purpose`: 'shown' in the report card, or 'recall'.
CREATE TABLE finetune_answers (
    finetune INTEGER NOT NULL REFERENCES finetunes(id) ON DELETE CASCADE,
    purpose  TEXT NOT NULL,
    place    INTEGER NOT NULL,
    row      INTEGER NOT NULL,
    trained  INTEGER NOT NULL,
    shown    TEXT NOT NULL,
    tokens   TEXT NOT NULL,
    wanted   TEXT NOT NULL,
    base     TEXT,
    tuned    TEXT,
    PRIMARY KEY (finetune, purpose, place)
) STRICT, WITHOUT ROWID;
