//! Billion: hub.
