//! A project of one test: a folder of its own, and the real program run in it with an environment of its own.

use crate::cluster::TestDatabase;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A project folder that is removed with the test.
pub struct TestProject {
    dir: tempfile::TempDir,
    env: BTreeMap<String, String>,
}

/// What a run of the program left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// What a process left that ran to its end.
    pub fn of(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let signal = output.status.signal().map(|signal| 1000 + signal);
        Self {
            code: output.status.code().or(signal).unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Asserts the exit code, showing all that was printed.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that standard error holds a text.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "not said: {text}\nstderr:\n{}", self.stderr);
        self
    }
}

/// The user and the group that own nothing.
const NOBODY: u32 = 65534;

/// A line whose stamps, digests, durations, sizes and time of day are replaced by words.
fn steady(line: &str) -> String {
    let digit = |c: Option<&u8>| c.is_some_and(u8::is_ascii_digit);
    let bytes = line.as_bytes();
    let mut steady = Vec::new();
    let mut at = 0;
    if bytes.len() > 8 && bytes[2] == b':' && bytes[5] == b':' && digit(bytes.first()) {
        at = 9.min(bytes.len());
    }
    while at < bytes.len() {
        let fresh = at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
        let run = |is: fn(&u8) -> bool| bytes[at..].iter().take_while(|byte| is(byte)).count();
        let (digits, hex) = (run(u8::is_ascii_digit), run(u8::is_ascii_hexdigit));
        let number = run(|byte| byte.is_ascii_digit() || *byte == b'.');
        let units = [
            ("ms", "TIME"),
            ("s", "TIME"),
            ("B", "SIZE"),
            ("KiB", "SIZE"),
            ("MiB", "SIZE"),
            ("bytes", "SIZE"),
        ];
        let unit = units.into_iter().find(|(unit, _)| {
            let rest = line.get(at + number..).and_then(|rest| rest.strip_prefix(' '));
            let rest = rest.and_then(|rest| rest.strip_prefix(unit));
            rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
        });
        let is_stamp = digits == 8
            && bytes.get(at + 8) == Some(&b'_')
            && bytes[at + 9..].iter().take_while(|byte| byte.is_ascii_digit()).count() == 6;
        if is_stamp {
            steady.extend_from_slice(b"STAMP");
            at += 15;
        } else if fresh && hex == 64 {
            steady.extend_from_slice(b"SHA256");
            at += 64;
        } else if let (true, Some((unit, word))) = (fresh && digits > 0, unit) {
            steady.extend_from_slice(word.as_bytes());
            at += number + 1 + unit.len();
        } else if digits > 0
            && (steady.ends_with(b" byte ") || (digits > 2 && steady.ends_with(b" manifest says ")))
        {
            steady.push(b'N');
            at += digits;
        } else {
            steady.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(steady).unwrap()
}

/// A line without the numbers of lines in what is embedded, which change with every edit there.
fn unnumbered(line: &str) -> String {
    if let Some((number, _)) = line.split_once(" │ ")
        && number.trim().parse::<u32>().is_ok()
    {
        return line.replacen(number.trim(), "N", 1);
    }
    let Some((before, place)) = line.rsplit_once(' ') else { return line.to_owned() };
    let embedded = [
        "std/backup:",
        "playbooks/backup_",
        "playbooks/verify_backups",
        "playbooks/rollback.rhai",
        "playbooks/cleanup.rhai",
    ];
    match place.split_once(':') {
        Some((file, _)) if embedded.iter().any(|name| place.starts_with(name)) => {
            format!("{before} {file}:N")
        }
        _ => line.to_owned(),
    }
}

impl TestProject {
    /// An empty project.
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// An empty project in memory where the system offers that, for tests whose many small files must not wait for
    /// the disk.
    pub fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Self::below(memory) } else { Self::new() }
    }

    fn below(parent: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("lifeboat-test-").tempdir_in(parent).unwrap();
        std::fs::write(dir.path().join("lifeboat.toml"), "").unwrap();
        let home = dir.path().display().to_string();
        let path = std::env::var("PATH").unwrap();
        let env = [
            ("HOME", home),
            ("PATH", path),
            ("LANG", "C.UTF-8".to_owned()),
            ("TZ", "UTC".to_owned()),
            // How full the disk of this machine is decides nothing here.
            ("BACKUP_ALERT_DISK_PERCENT", "0".to_owned()),
        ];
        Self { dir, env: env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect() }
    }

    /// The project's folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path below the project.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Writes a file.
    pub fn file(self, path: &str, content: &str) -> Self {
        let at = self.at(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, content).unwrap();
        self
    }

    /// Writes a playbook; a text without a header gets one.
    pub fn playbook(self, name: &str, text: &str) -> Self {
        let header =
            if text.contains("const PLAYBOOK") { "" } else { "const PLAYBOOK = #{ summary: \"A test\" };\n" };
        self.file(&format!("playbooks/{name}.rhai"), &format!("{header}{text}"))
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// Names a database by the guide's variables.
    pub fn database(self, database: &TestDatabase) -> Self {
        let of = |wanted: &str| database.env().into_iter().find(|(name, _)| *name == wanted).map(|(_, v)| v);
        let mut project = self;
        for (ours, theirs) in [
            ("DB_HOST", "PGHOST"),
            ("DB_PORT", "PGPORT"),
            ("DB_NAME", "PGDATABASE"),
            ("DB_USER", "PGUSER"),
            ("DB_PASSWORD", "PGPASSWORD"),
        ] {
            if let Some(value) = of(theirs) {
                project = project.env(ours, value);
            }
        }
        project
    }

    /// The program with arguments, in the project's folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.args(args).current_dir(self.path()).env_clear().envs(&self.env).stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// Runs the program as a user for whom permissions count, to whom the whole project belongs.
    pub fn run_as_nobody(&self, args: &[&str]) -> Ran {
        if rustix::process::getuid().is_root() {
            for entry in walkdir::WalkDir::new(self.path()) {
                std::os::unix::fs::lchown(entry.unwrap().path(), Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        self.run_unprivileged(args)
    }

    /// Runs the program as a user for whom permissions count; the project belongs to whom it belonged.
    pub fn run_unprivileged(&self, args: &[&str]) -> Ran {
        use std::os::unix::fs::PermissionsExt;
        use std::os::unix::process::CommandExt;
        let command = self.command(args);
        if !rustix::process::getuid().is_root() {
            let mut command = command;
            return Ran::of(command.output().unwrap());
        }
        // Where the tests were built that user may have no business.
        let reachable = tempfile::tempdir().unwrap();
        std::fs::set_permissions(reachable.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let program = reachable.path().join("lifeboat");
        let built = command.get_program();
        std::fs::hard_link(built, &program).or_else(|_| std::fs::copy(built, &program).map(drop)).unwrap();
        let mut copy = Command::new(program);
        copy.args(args).current_dir(self.path()).env_clear().envs(&self.env).stdin(Stdio::null());
        copy.uid(NOBODY).gid(NOBODY);
        loop {
            match copy.output() {
                // A child that another test has just forked still holds the copy open for writing.
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                output => return Ran::of(output.unwrap()),
            }
        }
    }

    /// What was printed for people, without what differs from run to run.
    pub fn steady(&self, text: &str) -> String {
        let text = text.replace(&self.path().display().to_string(), "PROJECT");
        let lines = text.lines().filter(|line| !line.starts_with("  run ") && !line.contains(" run 2"));
        lines.map(|line| unnumbered(&steady(line)) + "\n").collect()
    }

    /// The exit code, and what was printed from the first failure on.
    pub fn told(&self, ran: &Ran) -> String {
        let text = self.steady(&ran.stderr);
        let begin = ["error: ", "warning: ", "! "].iter().filter_map(|word| text.find(word)).min();
        format!("exit {}\n{}", ran.code, &text[begin.unwrap_or(0)..])
    }

    /// Starts the program; its output is thrown away.
    pub fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Runs another program in a folder of the project, which must succeed; returns what it printed.
    #[track_caller]
    pub fn stock(&self, dir: &str, program: &str, args: &[&str]) -> String {
        let output = Command::new(program).args(args).current_dir(self.at(dir)).output().unwrap();
        let shown = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program} {args:?}: {}: {shown}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Names in a folder of the project, sorted; none if it is not there.
    pub fn names(&self, dir: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.at(dir)) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The only file in a folder whose name ends so.
    #[track_caller]
    pub fn only(&self, dir: &str, ending: &str) -> String {
        let names: Vec<String> = self.names(dir).into_iter().filter(|name| name.ends_with(ending)).collect();
        assert_eq!(names.len(), 1, "{names:?}");
        names.into_iter().next().unwrap()
    }

    /// Every file below the project with its content, but for the folders in `but`.
    pub fn tree(&self, but: &[&str]) -> BTreeMap<String, Vec<u8>> {
        let mut tree = BTreeMap::new();
        for entry in walkdir::WalkDir::new(self.path()) {
            let entry = entry.unwrap();
            let name = entry.path().strip_prefix(self.path()).unwrap().display().to_string();
            if !but.iter().any(|but| name.starts_with(but)) {
                let content =
                    if entry.file_type().is_file() { std::fs::read(entry.path()).unwrap() } else { vec![] };
                tree.insert(name, content);
            }
        }
        tree
    }
}

/// Bytes that do not get smaller, the same ones every time.
pub fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(word).flatten().take(size).collect()
}
