//! Extractions that fail or are killed in the middle.
