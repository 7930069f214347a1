-- A model looked at over its training.
CREATE TABLE time_lapses (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at REAL NOT NULL,
    model      TEXT NOT NULL,
    steps      TEXT NOT NULL,
    prompt     TEXT NOT NULL
) STRICT;

-- A checkpoint of it. `fetched`: its weights came for this and go when it is done.
CREATE TABLE time_lapse_points (
    time_lapse   INTEGER NOT NULL REFERENCES time_lapses(id) ON DELETE CASCADE,
    step         INTEGER NOT NULL,
    fetched      INTEGER NOT NULL,
    mmlu         INTEGER REFERENCES runs(id) ON DELETE SET NULL,
    perplexity   INTEGER REFERENCES runs(id) ON DELETE SET NULL,
    continuation TEXT,
    problem      TEXT,
    done         INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (time_lapse, step)
) STRICT, WITHOUT ROWID;
