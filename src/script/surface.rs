//! What playbooks are checked against and documented by: functions with their families, options, effects.

use crate::script::bind;
use crate::script::engine::engine;
use crate::script::known::Known;
use crate::script::option_keys::Options;

/// Families of functions, for documentation. A function that stands in none is listed last.
pub const FAMILIES: [(&str, &[&str]); 11] = [
    ("Backups", &["dump", "archive", "file", "gzip", "hash", "save"]),
    (
        "Keeping and checking",
        &["verify", "rotate", "backups", "latest", "inspect", "health_check", "restore", "extract", "copy"],
    ),
    ("At the same time", &["parallel", "to", "to_verify", "to_exec"]),
    (
        "Databases",
        &["postgres", "query", "expect", "estimate", "databases", "scratch_postgres", "scratch_database"],
    ),
    (
        "Rolling back",
        &[
            "rollback",
            "rollback_database",
            "rollback_files",
            "kept",
            "kept_files",
            "remove_database",
            "remove_kept_files",
        ],
    ),
    (
        "Pre-flight checks",
        &[
            "require_program",
            "require_disk_space",
            "require_writable",
            "require_pg_dump",
            "require_restorable",
            "require_env",
            "disk_space",
            "exists",
        ],
    ),
    ("Programs and services", &["exec", "http_get"]),
    ("Announcing", &["notify", "info", "warn", "success", "error", "write", "json"]),
    ("Maintenance", &["last_done", "last_drill", "task_done", "logged_problems"]),
    ("Flow", &["fail", "retry", "confirm", "env", "reread_env"]),
    (
        "Time, sizes and names",
        &[
            "now",
            "run_stamp",
            "stamp",
            "plus_days",
            "plus_months",
            "duration",
            "bytes",
            "format",
            "file_name",
            "join",
        ],
    ),
];

/// Functions that act on the world: they stand inside steps.
pub const EFFECTS: [&str; 17] = [
    "save",
    "parallel",
    "rotate",
    "verify",
    "exec",
    "notify",
    "write",
    "restore",
    "extract",
    "rollback_files",
    "remove_kept_files",
    "copy",
    "scratch_postgres",
    "scratch_database",
    "rollback",
    "rollback_database",
    "remove_database",
];

/// What playbooks are checked against.
pub struct Surface {
    /// Functions.
    pub known: Known,
    /// Options of functions.
    pub options: Vec<Options>,
    /// Functions that act on the world.
    pub effects: Vec<&'static str>,
}

impl Surface {
    /// That of the engine which runs playbooks.
    pub fn new() -> Self {
        Self { known: Known::of(&engine()), options: bind::options(), effects: EFFECTS.to_vec() }
    }
}

impl Default for Surface {
    fn default() -> Self {
        Self::new()
    }
}

/// The family of a function.
pub fn family(function: &str) -> &'static str {
    FAMILIES.iter().find(|(_, functions)| functions.contains(&function)).map_or("More", |(family, _)| family)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_with_options_is_known_and_so_are_its_keys() {
        let surface = Surface::new();
        for options in &surface.options {
            assert_ne!(options.keys, Vec::<&str>::new(), "{}", options.function);
            assert_ne!(surface.known.forms(options.function), [], "{}", options.function);
        }
    }

    #[test]
    fn every_effect_is_a_function_of_some_family() {
        for effect in EFFECTS {
            assert_ne!(family(effect), "More", "{effect}");
        }
    }
}
