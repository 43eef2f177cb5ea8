//! A real Docker engine with docker-compose, and services built from a program of the tests' own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, OnceLock};

/// A server that answers every request with 200; it stands alone in its image.
const SERVER: &str = r#"
use std::io::{Read, Write};
fn main() {
    let port = std::env::args().nth(1).unwrap();
    let listener = std::net::TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    }
}
"#;

/// Makes sure that an engine answers, and starts one if none does; that one ends with this process.
pub fn engine() {
    static STARTED: OnceLock<Option<Mutex<Child>>> = OnceLock::new();
    STARTED.get_or_init(|| {
        if answers() {
            return None;
        }
        // The shell ends the engine when its input ends, which is when this process does.
        let script = "dockerd >/dev/null 2>&1 & engine=$!; cat >/dev/null; kill $engine; wait";
        let mut child = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
        for _ in 0..600 {
            if answers() {
                return Some(Mutex::new(child));
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let _ = child.kill();
        let _ = child.wait();
        panic!("no Docker engine answers, and none could be started: these tests need one, as root");
    });
}

fn answers() -> bool {
    let mut docker = Command::new("docker");
    docker.args(["version", "--format", "{{.Server.Version}}"]).stdout(Stdio::null()).stderr(Stdio::null());
    docker.status().is_ok_and(|status| status.success())
}

/// A port of this machine that nobody listens on, and that the kernel gives to nobody by itself: its own begin at 32768.
pub fn free_port() -> u16 {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let port = first + TRIED.fetch_add(1, Ordering::Relaxed);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The server's program, linked so that it needs nothing else.
pub fn server() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
            let (source, program) =
                (dir.join("health.rs"), dir.join(format!("health-{}", std::process::id())));
            std::fs::write(&source, SERVER).unwrap();
            let output = Command::new("rustc")
                .args(["-C", "target-feature=+crt-static", "-o"])
                .arg(&program)
                .arg(&source)
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            program
        })
        .clone()
}

/// The services of a compose file, removed with their images when dropped.
pub struct Services {
    dir: PathBuf,
    file: &'static str,
}

impl Services {
    /// Those of the project in `dir`, which may not be there yet.
    pub fn of(dir: &Path, file: &'static str) -> Self {
        engine();
        Self { dir: dir.to_path_buf(), file }
    }

    /// Names of the services that run.
    pub fn running(&self) -> Vec<String> {
        self.listed(&["ps", "--services", "--filter", "status=running"])
    }

    /// Names of the services that run under another project's name.
    pub fn running_as(&self, project: &str) -> Vec<String> {
        self.listed(&["-p", project, "ps", "--services", "--filter", "status=running"])
    }

    fn listed(&self, args: &[&str]) -> Vec<String> {
        let output = self.compose(args);
        let mut names: Vec<String> =
            output.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        names.sort();
        names
    }

    /// Runs docker-compose; returns what it printed.
    #[track_caller]
    pub fn compose(&self, args: &[&str]) -> String {
        let mut command = Command::new("docker-compose");
        command.args(["-f", self.file]).args(args).current_dir(&self.dir);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        if !self.dir.join(self.file).exists() {
            return;
        }
        let down = Command::new("docker-compose")
            .args(["-f", self.file, "down", "--volumes", "--rmi", "local"])
            .current_dir(&self.dir)
            .output();
        assert!(down.is_ok_and(|down| down.status.success()) || std::thread::panicking());
    }
}
