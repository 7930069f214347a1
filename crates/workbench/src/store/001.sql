-- Hash of a file, valid while size and time are the same.
CREATE TABLE hashes (
    path     TEXT PRIMARY KEY,
    bytes    INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    sha256   TEXT NOT NULL
) STRICT;

CREATE TABLE settings (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE scorecards (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at REAL NOT NULL,
    size       TEXT NOT NULL,
    models     TEXT NOT NULL,
    engine     TEXT NOT NULL,
    hardware   TEXT NOT NULL
) STRICT;

-- Why a figure of a scorecard is missing.
CREATE TABLE notes (
    scorecard INTEGER NOT NULL REFERENCES scorecards(id) ON DELETE CASCADE,
    model     TEXT NOT NULL,
    task      TEXT NOT NULL,
    text      TEXT NOT NULL,
    PRIMARY KEY (scorecard, model, task)
) STRICT;

CREATE TABLE jobs (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    title            TEXT NOT NULL,
    work             TEXT NOT NULL,
    state            TEXT NOT NULL,
    step             TEXT NOT NULL,
    done             INTEGER NOT NULL,
    total            INTEGER NOT NULL,
    eta_s            REAL,
    error            TEXT,
    started_at       REAL NOT NULL,
    scorecard        INTEGER REFERENCES scorecards(id) ON DELETE SET NULL,
    owner_pid        INTEGER NOT NULL,
    owner_started_at INTEGER NOT NULL,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    dismissed        INTEGER NOT NULL DEFAULT 0
) STRICT;

-- A run without these is not a result, so the store refuses it.
CREATE TABLE runs (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    task         TEXT NOT NULL,
    model        TEXT NOT NULL CHECK (model <> ''),
    name         TEXT NOT NULL,
    path         TEXT NOT NULL,
    sha256       TEXT NOT NULL CHECK (length(sha256) = 64),
    quant        TEXT NOT NULL CHECK (quant <> ''),
    params       INTEGER NOT NULL,
    task_version TEXT NOT NULL CHECK (task_version <> ''),
    shots        INTEGER NOT NULL,
    seed         INTEGER NOT NULL,
    hardware     TEXT NOT NULL CHECK (hardware <> ''),
    isa          TEXT NOT NULL,
    threads      INTEGER NOT NULL,
    app_version  TEXT NOT NULL CHECK (app_version <> ''),
    created_at   REAL NOT NULL,
    settings     TEXT NOT NULL,
    command      TEXT NOT NULL,
    spent_s      REAL NOT NULL DEFAULT 0,
    spent_tokens INTEGER NOT NULL DEFAULT 0,
    report       TEXT,
    job          INTEGER NOT NULL,
    scorecard    INTEGER REFERENCES scorecards(id) ON DELETE SET NULL
) STRICT;
CREATE INDEX runs_by_scorecard ON runs (scorecard);

CREATE TABLE samples (
    run     INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    subject TEXT NOT NULL,
    row     INTEGER NOT NULL,
    ll      TEXT NOT NULL,
    pred    TEXT NOT NULL,
    gold    TEXT NOT NULL,
    PRIMARY KEY (run, subject, row)
) STRICT, WITHOUT ROWID;

CREATE TABLE chats (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    title      TEXT NOT NULL,
    models     TEXT NOT NULL,
    options    TEXT NOT NULL,
    updated_at REAL NOT NULL
) STRICT;

CREATE TABLE turns (
    chat     INTEGER NOT NULL REFERENCES chats(id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    turn     TEXT NOT NULL,
    text     TEXT NOT NULL,
    PRIMARY KEY (chat, position)
) STRICT, WITHOUT ROWID;
