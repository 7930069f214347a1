-- The model that a job brings or makes: a download, a quantization.
ALTER TABLE jobs ADD COLUMN model TEXT;
