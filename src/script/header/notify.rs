//! `notify` in a header: how the runs of the playbook are announced.

use crate::base::failure::Failure;
use crate::base::notice::Notify;
use crate::script::fields::Fields;
use crate::script::literal::Literal;

/// Reads `notify`.
pub(super) fn read(literal: &Literal, file: &str) -> Result<Notify, Failure> {
    let fields = Fields::of(literal, "notify", file, &["ping_env"])?;
    let ping_env = fields.text("ping_env")?;
    let is_name = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match ping_env {
        Some(url) if url.contains("://") => Err(fields
            .refuse("ping_env", "is a URL, not the name of a variable")
            .hint("Whoever knows that URL can ping: put it into `.env`, and write the name of its variable here.")),
        Some(name) if !is_name(name) => Err(fields
            .refuse("ping_env", &format!("is `{name}`, which is not the name of a variable"))
            .hint("Write a name such as `PING_URL_OF_BACKUP`, and set that variable to the URL of the check.")),
        name => Ok(Notify { ping_env: name.map(str::to_owned) }),
    }
}

#[cfg(test)]
mod tests {
    use crate::base::notice::Notify;
    use crate::script::header::header;
    use crate::script::library::{Origin, Playbook};
    use expect_test::expect;

    fn read(notify: &str) -> Result<Notify, String> {
        let playbook = Playbook {
            name: "p".into(),
            file: "playbooks/p.rhai".into(),
            path: None,
            source: format!("const PLAYBOOK = #{{ summary: \"x\", notify: {notify} }};"),
            origin: Origin::Project,
        };
        header(&playbook).map(|header| header.notify).map_err(|failure| {
            let hints: String = failure.hints.iter().map(|hint| format!("  {hint}\n")).collect();
            format!("{failure}\n{hints}")
        })
    }

    #[test]
    fn a_variable_may_be_named_and_nothing_else() {
        assert_eq!(read("#{}"), Ok(Notify::default()));
        assert_eq!(read("#{ ping_env: \"PING_DB\" }"), Ok(Notify { ping_env: Some("PING_DB".into()) }));
        let wrong = [
            "#{ ping: \"https://hc-ping.com/x\" }",
            "#{ on: \"failure\" }",
            "#{ ping_env: \"https://hc-ping.com/x\" }",
            "#{ ping_env: \"MY PING\" }",
            "#{ ping_env: 3 }",
            "\"PING\"",
        ];
        let told: String = wrong.iter().map(|text| read(text).unwrap_err()).collect();
        expect![[r#"
            `notify` has no key `ping`
              Its keys are `ping_env`.
            `notify` has no key `on`
              Its keys are `ping_env`.
            `notify.ping_env` is a URL, not the name of a variable
              Whoever knows that URL can ping: put it into `.env`, and write the name of its variable here.
            `notify.ping_env` is `MY PING`, which is not the name of a variable
              Write a name such as `PING_URL_OF_BACKUP`, and set that variable to the URL of the check.
            `notify.ping_env` must be text, not a whole number
            `notify` must be a map, not text
        "#]]
        .assert_eq(&told);
    }
}
