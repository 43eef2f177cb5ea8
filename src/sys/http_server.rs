//! A small HTTP server for what monitoring asks: GET and HEAD of a few pages, from this machine unless another address is
//! named.

use crate::base::failure::{Code, Failure};
use crate::sys::host::Host;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
pub use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// So many clients are served at once; others wait.
const CLIENTS: usize = 16;
/// So long a client may take to send what it asks.
const HEADERS: Duration = Duration::from_secs(5);
/// So long one connection may take in all: a client that does not read must not hold its place.
const WHOLE: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// Content type.
    pub kind: &'static str,
    /// Content.
    pub text: String,
}

/// What answers the paths; `None` is not found. It may read files: it runs on a thread that may block.
pub type Pages = Arc<dyn Fn(&str) -> Option<Page> + Send + Sync>;

/// Serves until the host is dropped; returns the address, whose port is the one that was chosen if `address` had none.
///
/// # Errors
/// `Io` if the address cannot be listened on.
pub fn serve(host: &Host, address: SocketAddr, pages: Pages) -> Result<SocketAddr, Failure> {
    let refused = |error: std::io::Error| {
        Failure::new(Code::Io, format!("cannot listen on `{address}`")).caused_by(error).hint(
            "Another program may have that port: name a free one with `--listen ADDRESS:PORT`, or leave it out.",
        )
    };
    let listener = host.wait(TcpListener::bind(address))?.map_err(refused)?;
    let local = listener.local_addr().map_err(refused)?;
    host.spawn(accept(listener, pages))?;
    Ok(local)
}

async fn accept(listener: TcpListener, pages: Pages) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely; others will give some back.
                tracing::debug!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let pages = pages.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, pages.clone()));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(WHOLE, connection).await;
            drop(place);
        });
    }
}

async fn answer(request: Request<Incoming>, pages: Pages) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return Ok(refused);
    }
    let path = request.uri().path().to_owned();
    Ok(match tokio::task::spawn_blocking(move || pages(&path)).await {
        Ok(Some(page)) => {
            let mut response = Response::new(Full::new(Bytes::from(page.text)));
            *response.status_mut() = StatusCode::from_u16(page.status).unwrap_or(StatusCode::OK);
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(page.kind));
            headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
            response
        }
        Ok(None) => plain(StatusCode::NOT_FOUND, "not found: /metrics and /healthz are here\n"),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "a defect in Lifeboat: please report it\n"),
    })
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::env::Env;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    fn server() -> (Host, SocketAddr) {
        let host = Host::new("/nowhere".into(), "/nowhere/.lifeboat".into(), Env::default());
        let pages: Pages = Arc::new(|path| {
            (path == "/metrics").then(|| Page { status: 200, kind: "text/plain", text: "up 1\n".to_owned() })
        });
        let address = serve(&host, "127.0.0.1:0".parse().unwrap(), pages).unwrap();
        (host, address)
    }

    fn ask(address: SocketAddr, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    fn ok(status: &str, body: &str) -> (String, String) {
        (format!("HTTP/1.1 {status}"), body.to_owned())
    }

    #[test]
    fn pages_are_served_and_nothing_else() {
        let (_host, address) = server();
        assert_eq!(ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), ok("200 OK", "up 1\n"));
        assert_eq!(ask(address, "GET /metrics?x=1 HTTP/1.1\r\nHost: x\r\n\r\n"), ok("200 OK", "up 1\n"));
        assert_eq!(ask(address, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), ok("200 OK", ""));
        assert_eq!(
            ask(address, "GET /../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n"),
            ok("404 Not Found", "not found: /metrics and /healthz are here\n")
        );
        assert_eq!(
            ask(address, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"),
            ok("405 Method Not Allowed", "only GET and HEAD\n")
        );
        assert_eq!(ask(address, "nonsense\r\n\r\n").0, "HTTP/1.1 400 Bad Request");
    }

    #[test]
    fn clients_that_say_nothing_keep_nobody_out() {
        let (_host, address) = server();
        let silent: Vec<TcpStream> = (0..CLIENTS - 1).map(|_| TcpStream::connect(address).unwrap()).collect();
        assert_eq!(ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").1, "up 1\n");
        drop(silent);
    }

    #[test]
    fn a_port_that_is_taken_is_told() {
        let (host, address) = server();
        let failure = serve(&host, address, Arc::new(|_| None)).unwrap_err();
        assert_eq!(failure.message, format!("cannot listen on `{address}`"));
        assert_eq!(
            failure.hints,
            [
                "Another program may have that port: name a free one with `--listen ADDRESS:PORT`, or leave it out."
            ]
        );
    }
}
