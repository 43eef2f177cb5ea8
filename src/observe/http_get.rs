//! Asks an HTTP server.

use crate::base::failure::{Code, Failure};
use crate::base::plan::{Later, Need, Target};
use crate::observe::Observation;
use crate::sys::facts::Facts;
use crate::sys::http::{self, Address, Terms};
use serde::Serialize;

/// A resource to get. It asks once; `retry` asks again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpGet {
    /// Its URL.
    pub address: Address,
    /// Time limit, headers, most bytes.
    pub terms: Terms,
    /// The status it must answer with; any, if that is not said.
    pub expect_status: Option<u16>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HttpAnswer {
    /// Status code.
    pub status: u16,
    /// The body as text, its first MiB.
    pub body: String,
    /// How long it took.
    pub seconds: f64,
}

impl HttpGet {
    /// Gets `url` on the usual terms; any status will do.
    ///
    /// # Errors
    /// `Usage` if the URL is not valid.
    pub fn new(url: &str) -> Result<Self, Failure> {
        Ok(Self { address: Address::parse(url)?, terms: Terms::default(), expect_status: None })
    }
}

impl Observation for HttpGet {
    const NAME: &'static str = "http_get";
    type Answer = HttpAnswer;

    fn question(&self) -> String {
        format!("GET {}", self.address.with_path())
    }

    fn answer(&self, answer: &HttpAnswer) -> String {
        http::status_words(answer.status)
    }

    fn needs(&self, _facts: &Facts) -> Vec<Need> {
        vec![Need::Host(self.address.host().to_owned())]
    }

    fn concerns(&self, _facts: &Facts) -> Vec<Target> {
        vec![Target::Host(self.address.endpoint())]
    }

    fn captured(&self, facts: &Facts) -> Option<String> {
        // Whoever answers there is not of the sandbox: what runs in it ends with its step.
        facts.host().sandbox().map(|_| "nothing in the sandbox serves that address".to_owned())
    }

    fn ask(&self, facts: &Facts) -> Result<Later<HttpAnswer>, Failure> {
        let answer = http::get(facts.host(), &self.address, &self.terms)?;
        match self.expect_status {
            Some(expected) if expected != answer.status => {
                let status = http::status_words(answer.status);
                let failure = Failure::new(Code::Http, format!("`{}` answered {status}", self.address))
                    .caused_by(format!("expected {}", http::status_words(expected)));
                let said = answer.body.lines().find(|line| !line.trim().is_empty());
                Err(said.into_iter().fold(failure, |failure, line| {
                    failure.caused_by(line.trim().chars().take(200).collect::<String>())
                }))
            }
            _ => Ok(Later::Now(HttpAnswer {
                status: answer.status,
                body: answer.body,
                seconds: answer.elapsed.as_secs_f64(),
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::env::Env;
    use crate::sys::facts::Reality;
    use crate::sys::host::Host;
    use crate::sys::scripted_server::{Move, ScriptedServer};
    use std::sync::Arc;

    fn facts() -> Facts {
        let host = Host::new("/nowhere".into(), "/nowhere/.lifeboat".into(), Env::default());
        Facts::new(Arc::new(host), Arc::new(Reality))
    }

    #[test]
    fn it_names_whom_it_asks_and_what_came_back() {
        let server = ScriptedServer::answering(&[200]);
        let get = HttpGet::new(&format!("http://{}/api/health?token=abc", server.address)).unwrap();
        let facts = facts();
        assert_eq!(get.question(), format!("GET http://{}/api/health?…", server.address));
        assert_eq!(get.needs(&facts), [Need::Host("127.0.0.1".into())]);
        assert_eq!(get.concerns(&facts), [Target::Host(server.address.clone())]);
        let answer = get.ask(&facts).unwrap().now().unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
        assert!(answer.seconds > 0.0 && answer.seconds < 5.0);
        assert_eq!(get.answer(&answer), "200 OK");
    }

    #[test]
    fn another_status_than_expected_is_a_failure_that_quotes_the_body() {
        let server =
            ScriptedServer::new(vec![Move::Answer(503, "", "\n  database is starting\nmore".into())]);
        let mut get = HttpGet::new(&format!("http://{}/health", server.address)).unwrap();
        get.expect_status = Some(200);
        let failure = get.ask(&facts()).unwrap_err();
        assert_eq!(failure.code, Code::Http);
        assert_eq!(
            failure.to_string(),
            format!(
                "`http://{}/…` answered 503 Service Unavailable: expected 200 OK: database is starting",
                server.address
            )
        );
    }
}
