//! The playbooks and modules that are part of the program, so that it works from any folder.

macro_rules! table {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../", $folder, "/", $name, ".rhai")))),*]
    };
}

/// Playbooks by name.
pub const PLAYBOOKS: &[(&str, &str)] = table!("playbooks": "backup_all", "backup_config", "backup_database", "cleanup", "demo", "full_recovery", "health_check", "maintenance", "restore", "restore_test", "rollback", "rotate_backups", "verify_backups");

/// Modules of the standard library by name, without `std/`.
pub const MODULES: &[(&str, &str)] = table!("stdlib": "backup", "maintenance", "recovery", "restore_checks", "restore_report", "restore_testing");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::library::Library;
    use crate::script::lint::{Reserved, lint};

    #[test]
    fn all_of_them_pass_lint() {
        let empty = tempfile::tempdir().unwrap();
        let library = Library::new(empty.path());
        for (name, _) in PLAYBOOKS {
            let playbook = library.find(name).unwrap();
            assert_eq!(lint(&library, &playbook, &Reserved::default()), [], "{name}");
        }
    }

    #[test]
    fn none_was_forgotten() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        for (folder, table) in [("playbooks", PLAYBOOKS), ("stdlib", MODULES)] {
            let mut found: Vec<String> = std::fs::read_dir(root.join(folder))
                .unwrap()
                .filter_map(|entry| {
                    Some(entry.unwrap().file_name().to_str()?.strip_suffix(".rhai")?.to_owned())
                })
                .collect();
            found.sort();
            assert_eq!(found, table.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>());
        }
    }
}
