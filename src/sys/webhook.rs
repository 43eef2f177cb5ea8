//! The receiver of alerts, as the environment names it.

use crate::base::failure::Failure;
use crate::base::secret::Secret;
use crate::sys::host::Host;
use crate::sys::http::Address;

/// The variable that names the receiver of alerts.
pub const WEBHOOK_URL: &str = "BACKUP_WEBHOOK_URL";

/// The receiver of alerts, if there is one. Its URL is a secret, as those of Slack are, and is masked from now on.
///
/// # Errors
/// `Usage` if the URL is not valid.
pub fn receiver(host: &Host) -> Result<Option<Address>, Failure> {
    let env = host.env();
    let Some((text, origin)) = env.get(WEBHOOK_URL) else { return Ok(None) };
    let address = match Address::parse(text) {
        Ok(address) => address,
        Err(failure) => {
            host.masker().add(&Secret::new(text));
            let message = format!("{} is not a valid URL", origin.describe(WEBHOOK_URL));
            let hint = format!(
                "Set {WEBHOOK_URL} to the full URL of the receiver, which begins with `https://`, or remove it."
            );
            return Err(Failure { message, hints: vec![hint], ..failure });
        }
    };
    let secrets = address.secrets();
    // A URL that names but a host holds nothing secret.
    if !secrets.is_empty() {
        host.masker().add(&Secret::new(text));
        secrets.iter().for_each(|secret| host.masker().add(secret));
    }
    Ok(Some(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::env::Env;

    fn host(url: &str) -> Host {
        let env = Env::of([].into(), [(WEBHOOK_URL.to_owned(), url.to_owned())].into());
        Host::new("/nowhere".into(), "/nowhere/.lifeboat".into(), env)
    }

    #[test]
    fn the_url_is_a_secret_in_all_its_spellings() {
        let url = "https://hooks.slack.com/services/T0/B0/x y";
        let host = host(url);
        assert_eq!(receiver(&host).unwrap().unwrap().to_string(), "https://hooks.slack.com/…");
        for text in [url, "https://hooks.slack.com/services/T0/B0/x%20y", "/services/T0/B0/x%20y"] {
            assert_eq!(host.masker().mask(&format!("POST {text}")), "POST ***");
        }
    }

    #[test]
    fn none_is_fine_and_nonsense_is_told_without_quoting_it() {
        assert_eq!(receiver(&host("")), Ok(None));
        let host = host("hooks.slack.com/services/T0");
        let failure = receiver(&host).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "BACKUP_WEBHOOK_URL in .env is not a valid URL: relative URL without a base"
        );
        assert_eq!(
            failure.hints,
            [
                "Set BACKUP_WEBHOOK_URL to the full URL of the receiver, which begins with `https://`, or remove it."
            ]
        );
        assert_eq!(host.masker().mask("hooks.slack.com/services/T0"), "***");
    }
}
