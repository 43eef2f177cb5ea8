//! Taking up the folder of a run that ended early.

use super::{
    Claim, END_RESERVE, EVENTS, LOCK, RESERVE, RESERVE_OF_END, RUN_RESERVE, Reserve, RunFiles, Tail,
    allocate, folder, held, live, no_space,
};
use crate::base::failure::Failure;
use crate::base::ids::RunId;
use crate::sys::flock::Held;
use crate::sys::fs;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

impl RunFiles {
    /// Takes up the folder of a run that ended early, to go on with it; `None` if it still works. The files `aside` (names
    /// without `.json`) are set aside: what they say of the end is not true any more.
    pub fn reopen(
        state: &Path,
        run: &RunId,
        aside: &[&str],
        reserve: Reserve,
    ) -> Result<Option<Self>, Failure> {
        let dir = folder(state, run);
        let path = dir.join(LOCK);
        let Claim::Held(lock) = held(&path, Held::take_from_lookers(fs::open_lock(&path)?))? else {
            return Ok(None);
        };
        for (reserve, size) in [(RESERVE, RUN_RESERVE), (RESERVE_OF_END, END_RESERVE)] {
            if !dir.join(reserve).exists() {
                allocate(&dir.join(reserve), size).map_err(|failure| no_space(state, failure))?;
            }
        }
        let events = dir.join(EVENTS);
        let tail = Tail::mended(&events).map_err(|error| Failure::io("open", &events, &error))?;
        live::mark(state, run);
        for name in aside {
            let from = dir.join(format!("{name}.json"));
            let free = (1..).map(|n: u32| dir.join(format!("{name}.{n}.json"))).find(|path| !path.exists());
            if let Some(to) = free.filter(|_| from.exists()) {
                std::fs::rename(&from, &to).map_err(|error| Failure::io("set aside", &from, &error))?;
            }
        }
        fs::sync_dir(&dir)?;
        Ok(Some(Self {
            state: state.to_path_buf(),
            run: run.clone(),
            dir,
            events: Mutex::new(tail),
            host: AtomicBool::new(reserve == Reserve::Host),
            _lock: lock,
        }))
    }
}

impl Tail {
    /// The events of a run that ended early. A last line that was torn by a kill goes, so that it spoils no other.
    fn mended(path: &Path) -> io::Result<Self> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        let mut length = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if serde_json::from_slice::<serde_json::Value>(&content[length..]).is_ok() {
            file.write_all(b"\n")?;
            length = content.len() + 1;
        }
        file.set_len(length as u64)?;
        Ok(Self { file, length: length as u64 })
    }
}
