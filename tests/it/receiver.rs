//! A real HTTP server that takes alerts, or takes requests and never answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A server on a port of its own; it serves until the test process ends.
pub struct Receiver {
    address: String,
    bodies: Arc<Mutex<Vec<serde_json::Value>>>,
}

impl Receiver {
    /// Answers every request with 200.
    pub fn new() -> Self {
        Self::serving(true)
    }

    /// Takes every request and stays silent.
    pub fn silent() -> Self {
        Self::serving(false)
    }

    fn serving(answers: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let log = bodies.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = log.clone();
                // A client that is killed breaks off anywhere.
                std::thread::spawn(move || serve(stream, &log, answers));
            }
        });
        Self { address, bodies }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Bodies of the requests so far; `null` for one without JSON.
    pub fn bodies(&self) -> Vec<serde_json::Value> {
        self.bodies.lock().unwrap().clone()
    }

    /// Messages of the alerts so far that hold a text.
    pub fn messages(&self, holding: &str) -> Vec<String> {
        let message = |body: serde_json::Value| body["message"].as_str().map(str::to_owned);
        self.bodies().into_iter().filter_map(message).filter(|text| text.contains(holding)).collect()
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<serde_json::Value>>, answers: bool) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    log.lock().unwrap().push(serde_json::from_slice(&body).unwrap_or_default());
    if answers {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").ok()?;
    } else {
        let _ = reader.read(&mut [0]);
    }
    Some(())
}
