-- What a model wrote for a HumanEval problem, and what came of running it: null until it was run.
CREATE TABLE completions (
    run           INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    -- Row of the problem in its file, from 0.
    row           INTEGER NOT NULL,
    sample        INTEGER NOT NULL,
    task_id       TEXT NOT NULL,
    completion    TEXT NOT NULL,
    tokens        INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    finish_reason TEXT NOT NULL,
    verdict       TEXT,
    detail        TEXT,
    seconds       REAL,
    PRIMARY KEY (run, row, sample)
) STRICT, WITHOUT ROWID;
