//! Watches the arguments of all processes below this one, as every user of the machine can.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A watch that is going on.
pub struct Children {
    ended: Arc<AtomicBool>,
    watcher: Option<JoinHandle<BTreeSet<String>>>,
}

impl Children {
    /// Begins to watch.
    pub fn watch() -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let flag = ended.clone();
        let watcher = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !flag.load(Ordering::Relaxed) {
                below(Path::new("/proc/self"), &mut seen);
                std::thread::sleep(Duration::from_millis(1));
            }
            seen
        });
        Self { ended, watcher: Some(watcher) }
    }

    /// Ends the watch: the command lines seen, arguments apart by spaces.
    pub fn end(mut self) -> BTreeSet<String> {
        self.ended.store(true, Ordering::Relaxed);
        self.watcher.take().unwrap().join().unwrap()
    }
}

impl Drop for Children {
    /// A case that fails must not leave a watch behind, which slows down all tests after it.
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Looks at the children of each thread of a process, and at theirs. What ends meanwhile is passed over.
fn below(process: &Path, seen: &mut BTreeSet<String>) {
    let Ok(threads) = std::fs::read_dir(process.join("task")) else { return };
    for thread in threads.flatten() {
        let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            let child = Path::new("/proc").join(child);
            let argv = std::fs::read(child.join("cmdline")).unwrap_or_default();
            let argv: Vec<_> = argv.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
            seen.insert(argv.join(" "));
            below(&child, seen);
        }
    }
}
