-- What else a scorecard was asked for: when MMLU may stop, and file or folder of its questions (none: the starter pack's).
ALTER TABLE scorecards ADD COLUMN stop_at_half_width REAL;
ALTER TABLE scorecards ADD COLUMN mmlu TEXT;
