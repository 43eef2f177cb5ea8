//! A real HTTP server that takes alerts, or takes requests and never answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A server on a port of its own; it serves until the test process ends.
pub struct Receiver {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// For example `POST /hook HTTP/1.1`.
    pub line: String,
    /// Header lines, names in lower case.
    pub headers: Vec<String>,
    /// The body.
    pub body: String,
}

impl Receiver {
    /// Answers every request with 200.
    pub fn new() -> Self {
        Self::answering(200)
    }

    /// Takes every request and stays silent.
    pub fn silent() -> Self {
        Self::serving(None)
    }

    /// Answers every request with a status.
    pub fn answering(status: u16) -> Self {
        Self::serving(Some(status))
    }

    fn serving(answer: Option<u16>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = log.clone();
                // A client that is killed breaks off anywhere.
                std::thread::spawn(move || serve(stream, &log, answer));
            }
        });
        Self { address, requests }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Bodies of the requests so far; `null` for one without JSON.
    pub fn bodies(&self) -> Vec<serde_json::Value> {
        self.requests()
            .iter()
            .map(|request| serde_json::from_str(&request.body).unwrap_or_default())
            .collect()
    }

    /// Messages of the alerts so far that hold a text.
    pub fn messages(&self, holding: &str) -> Vec<String> {
        let message = |body: serde_json::Value| body["message"].as_str().map(str::to_owned);
        self.bodies().into_iter().filter_map(message).filter(|text| text.contains(holding)).collect()
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<Request>>, answer: Option<u16>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut length = 0;
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut headers = Vec::new();
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
        let (name, value) = line.trim().split_once(':')?;
        headers.push(format!("{}:{value}", name.to_lowercase()));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8_lossy(&body).into_owned();
    log.lock().unwrap().push(Request { line: first.trim().to_owned(), headers, body });
    if let Some(status) = answer {
        let head = format!("HTTP/1.1 {status} Said\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
        stream.write_all(head.as_bytes()).ok()?;
    } else {
        let _ = reader.read(&mut [0]);
    }
    Some(())
}
