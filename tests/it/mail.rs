//! A real SMTP server that takes mail, over TLS or not, or refuses it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// How the server behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Takes mail as it comes.
    Plain,
    /// Speaks TLS from the beginning, and takes mail of whoever is known.
    Implicit,
    /// Offers STARTTLS, and takes mail of whoever is known.
    StartTls,
    /// Refuses every receiver for good.
    RefusesForGood,
    /// Refuses one receiver, the boss, for good.
    RefusesTheBoss,
    /// Refuses the first receiver for now, and takes the mail the second time.
    RefusesOnce,
    /// Refuses every user.
    RefusesUsers,
    /// Takes the connection and stays silent.
    Silent,
    /// Hangs up in the middle of the mail.
    BreaksOff,
}

/// A mail as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// What was said before, without the server's answers; the credentials are decoded.
    pub said: Vec<String>,
    /// Header and body, with plain line ends.
    pub text: String,
    /// Whether it came encrypted.
    pub encrypted: bool,
}

/// A server on a port of its own; it serves until the test process ends.
pub struct MailServer {
    /// Its port on 127.0.0.1.
    pub port: u16,
    mails: Arc<Mutex<Vec<Mail>>>,
}

trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

impl MailServer {
    /// Serves in a manner.
    pub fn new(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mails = Arc::new(Mutex::new(Vec::new()));
        let log = mails.clone();
        std::thread::spawn(move || {
            let mut connections = 0;
            for stream in listener.incoming().flatten() {
                connections += 1;
                let (log, first) = (log.clone(), connections == 1);
                std::thread::spawn(move || serve(stream, manner, first, &log));
            }
        });
        Self { port, mails }
    }

    /// The mails so far.
    pub fn mails(&self) -> Vec<Mail> {
        self.mails.lock().unwrap().clone()
    }
}

fn encrypted(stream: TcpStream) -> Option<Box<dyn Stream>> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/certificates");
    let certificates = CertificateDer::pem_file_iter(folder.join("mail.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("mail.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates.map(Result::unwrap).collect(), key)
        .unwrap();
    let connection = rustls::ServerConnection::new(Arc::new(config)).ok()?;
    Some(Box::new(rustls::StreamOwned::new(connection, stream)))
}

fn serve(stream: TcpStream, manner: Manner, first: bool, log: &Mutex<Vec<Mail>>) -> Option<()> {
    let raw = stream.try_clone().ok()?;
    let mut is_encrypted = manner == Manner::Implicit;
    let mut stream: BufReader<Box<dyn Stream>> =
        BufReader::new(if is_encrypted { encrypted(stream)? } else { Box::new(stream) });
    let mut said = Vec::new();
    if manner == Manner::Silent {
        stream.read_exact(&mut [0]).ok()?;
        return None;
    }
    let needs_user = matches!(manner, Manner::Implicit | Manner::StartTls | Manner::RefusesUsers);
    let say = |stream: &mut BufReader<Box<dyn Stream>>, text: &str| {
        stream.get_mut().write_all(format!("{text}\r\n").as_bytes()).ok()?;
        stream.get_mut().flush().ok()
    };
    say(&mut stream, "220 mail.test ESMTP")?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        let word = line.split(' ').next().unwrap_or_default().to_uppercase();
        if word == "AUTH" {
            use base64::Engine;
            let coded = line.rsplit(' ').next().unwrap_or_default();
            let plain = base64::engine::general_purpose::STANDARD.decode(coded).unwrap();
            said.push(format!("AUTH {}", String::from_utf8(plain).unwrap().replace('\0', "|")));
        } else {
            said.push(line.clone());
        }
        match word.as_str() {
            "EHLO" if manner == Manner::StartTls && !is_encrypted => {
                say(&mut stream, "250-mail.test\r\n250 STARTTLS")?;
            }
            "EHLO" if needs_user => say(&mut stream, "250-mail.test\r\n250 AUTH PLAIN")?,
            "EHLO" => say(&mut stream, "250 mail.test")?,
            "STARTTLS" => {
                say(&mut stream, "220 go on")?;
                stream = BufReader::new(encrypted(raw.try_clone().ok()?)?);
                is_encrypted = true;
            }
            "AUTH" if manner == Manner::RefusesUsers => say(&mut stream, "535 who are you")?,
            "AUTH" => say(&mut stream, "235 welcome")?,
            "RCPT" if manner == Manner::RefusesForGood => say(&mut stream, "550 no such user here")?,
            "RCPT" if manner == Manner::RefusesTheBoss && line.contains("boss") => {
                say(&mut stream, "550 the boss has left")?;
            }
            "RCPT" if manner == Manner::RefusesOnce && first => say(&mut stream, "451 try again later")?,
            "MAIL" | "RCPT" | "RSET" | "NOOP" => say(&mut stream, "250 fine")?,
            "DATA" if manner == Manner::BreaksOff => {
                say(&mut stream, "354 go ahead")?;
                return None;
            }
            "DATA" => {
                say(&mut stream, "354 go ahead")?;
                let mut text = String::new();
                loop {
                    let mut line = String::new();
                    if stream.read_line(&mut line).ok()? == 0 {
                        return None;
                    }
                    if line == ".\r\n" {
                        break;
                    }
                    text.push_str(&line.replace("\r\n", "\n"));
                }
                log.lock().unwrap().push(Mail { said: said.clone(), text, encrypted: is_encrypted });
                say(&mut stream, "250 taken")?;
            }
            "QUIT" => {
                say(&mut stream, "221 bye")?;
                return None;
            }
            _ => say(&mut stream, "502 what")?,
        }
    }
}
