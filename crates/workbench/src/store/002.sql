-- How fast a job works (JSON of a rate), and whether pausing it loses nothing. `cancel_requested` is 2 for a pause.
ALTER TABLE jobs ADD COLUMN rate TEXT;
ALTER TABLE jobs ADD COLUMN pausable INTEGER NOT NULL DEFAULT 0;
CREATE INDEX runs_by_job ON runs (job);
