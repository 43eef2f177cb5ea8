//! Archives that somebody else has made, with every known way out of a folder.
