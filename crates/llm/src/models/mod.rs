//! Maps a configuration and its tensor names to a decoder description; no arithmetic.
