//! Failures on purpose, at the one place where actions are carried out: how a playbook's own behaviour in the worst moments is
//! tried out.
//!
//! `LIFEBOAT_FAULT=fail:3` lets the third action that this process carries out fail, `kill-before:3` and `kill-after:3` kill
//! the process right before and right after it; after it means before the journal has its end.

use crate::base::failure::{Code, Failure};
use crate::sys::host::Host;

/// Asks for a failure.
pub const VARIABLE: &str = "LIFEBOAT_FAULT";

/// What happens to the action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It fails without having done anything.
    Fail,
    /// The process is killed before it is carried out.
    KillBefore,
    /// The process is killed after it was carried out, before its end is on record.
    KillAfter,
}

/// A failure on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injection {
    /// What happens.
    pub kind: Kind,
    /// To which action that this process carries out, from 1.
    pub nth: u64,
}

impl Injection {
    /// Reads `fail:N`, `kill-before:N` or `kill-after:N`.
    ///
    /// # Errors
    /// `Usage` for anything else.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = || {
            Failure::new(Code::Usage, format!("`{VARIABLE}` is `{text}`"))
                .hint("Write `fail:3`, `kill-before:3` or `kill-after:3`, with the number of an action; or unset it.")
        };
        let (kind, nth) = text.split_once(':').ok_or_else(wrong)?;
        let kind = match kind {
            "fail" => Kind::Fail,
            "kill-before" => Kind::KillBefore,
            "kill-after" => Kind::KillAfter,
            _ => return Err(wrong()),
        };
        let nth = nth.parse().ok().filter(|nth| *nth > 0).ok_or_else(wrong)?;
        Ok(Self { kind, nth })
    }

    /// That of this host, if its environment asks for one.
    ///
    /// # Errors
    /// `Usage` if it cannot be read.
    pub fn of(host: &Host) -> Result<Option<Self>, Failure> {
        host.env().value(VARIABLE).map(Self::parse).transpose()
    }

    /// Whether it is meant for an action.
    pub fn hits(self, kind: Kind, nth: u64) -> bool {
        self.kind == kind && self.nth == nth
    }

    /// The failure of an action called `name`.
    pub fn failure(self, name: &str) -> Failure {
        Failure::new(Code::Failed, format!("`{name}` fails on purpose"))
            .caused_by(format!("{VARIABLE} asks for that, since it is action {}", self.nth))
            .hint(format!("Unset {VARIABLE}."))
    }

    /// What a run tells of it.
    pub fn told(self) -> String {
        let nth = self.nth;
        let what = match self.kind {
            Kind::Fail => "fails",
            Kind::KillBefore => "is preceded by a kill",
            Kind::KillAfter => "is followed by a kill",
        };
        format!("action {nth} {what} on purpose, since {VARIABLE} is set")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_documented_is_read() {
        assert_eq!(Injection::parse("fail:3"), Ok(Injection { kind: Kind::Fail, nth: 3 }));
        assert_eq!(Injection::parse("kill-before:1"), Ok(Injection { kind: Kind::KillBefore, nth: 1 }));
        assert_eq!(Injection::parse("kill-after:10"), Ok(Injection { kind: Kind::KillAfter, nth: 10 }));
        for text in ["", "fail", "fail:", "fail:0", "fail:-1", "kill:1", "fail:1:2", "FAIL:1"] {
            let failure = Injection::parse(text).unwrap_err();
            assert_eq!(failure.to_string(), format!("`LIFEBOAT_FAULT` is `{text}`"));
            assert_eq!(
                failure.hints,
                [
                    "Write `fail:3`, `kill-before:3` or `kill-after:3`, with the number of an action; or unset it."
                ]
            );
        }
    }
}
