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

    fn ask(&self, facts: &Facts) -> Result<Later<HttpAnswer>, Failure> {
        let answer = http::get(facts.host(), &self.address, &self.terms)?;
        match self.expect_status {
            Some(expected) if expected != answer.status => {
                let status = http::status_words(answer.status);
                let failure = Failure::new(Code::Http, format!("`{}` answered {status}", self.address))
                    .caused_by(format!("expected {}", http::status_words(expected)));
                let said = answer.body.lines().find(|line| !line.trim().is_empty());
                Err(said.into_iter().fold(failure, |failure, line| {
                    failure.caused_by(line.chars().take(200).collect::<String>())
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
