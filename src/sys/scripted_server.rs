//! A real HTTP server for tests, which does what a script says: one move per connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What the server does with one connection.
pub enum Move {
    /// Answers with this status, these further header lines and this body.
    Answer(u16, &'static str, String),
    /// Takes the request and stays silent until the client goes.
    Hang,
    /// Begins an answer and breaks off.
    BreakOff,
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// For example `GET /path HTTP/1.1`.
    pub line: String,
    /// Header lines in lower case.
    pub headers: Vec<String>,
    /// The body.
    pub body: String,
}

/// A running server; it goes with the test.
pub struct ScriptedServer {
    /// `127.0.0.1:PORT`.
    pub address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl ScriptedServer {
    /// Serves `moves`, then no more.
    pub fn new(moves: Vec<Move>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        std::thread::spawn(move || {
            for next in moves {
                let Ok((stream, _)) = listener.accept() else { return };
                serve(stream, next, &log);
            }
        });
        Self { address, seen }
    }

    /// Answers each connection with a status of the row.
    pub fn answering(statuses: &[u16]) -> Self {
        Self::new(statuses.iter().map(|status| Move::Answer(*status, "", "ok".to_owned())).collect())
    }

    /// Waits until a request has arrived.
    pub fn wait_for_request(&self) {
        let began = std::time::Instant::now();
        while self.seen.lock().unwrap().is_empty() {
            assert!(began.elapsed().as_secs() < 60, "no request arrives");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, next: Move, log: &Mutex<Vec<Seen>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut headers = Vec::new();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let header = header.trim().to_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        headers.push(header);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    log.lock().unwrap().push(Seen { line: line.trim().to_owned(), headers, body });
    let mut stream = stream;
    match next {
        Move::Answer(status, headers, body) => {
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status} Said\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
        }
        Move::Hang => drop(reader.read(&mut [0])),
        Move::BreakOff => drop(write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")),
    }
}
