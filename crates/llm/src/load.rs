//! Opens a model file or folder and loads it into an executor.
