//! Parameters of playbooks as flags, and back.

use crate::cli::global::Global;
use crate::cli::screen::columns;
use crate::script::header::{Header, Schedule};
use crate::script::param::{Kind, Param};
use crate::script::parameters::Given;
use clap::builder::PossibleValuesParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args};
use serde_json::Value;

/// Parameters and global options must not be confused by clap.
fn id(param: &Param) -> String {
    format!("param {}", param.name)
}

/// The command that a playbook is: its parameters as flags, its header as help. `shown` is how it is called.
pub fn command(header: &Header, shown: &str) -> clap::Command {
    let taken = Global::augment_args(clap::Command::new("globals"));
    let is_taken =
        |flag: &str| flag == "help" || taken.get_arguments().any(|arg| arg.get_long() == Some(flag));
    // A flag that is taken is what lint refuses the playbook for; here it must only not get in the way.
    let params = header.params.iter().filter(|param| param.positional || !is_taken(&param.flag()));
    // What says what the command is comes last: the global options would say it of themselves.
    Global::augment_args(clap::Command::new(shown.to_owned()).args(params.map(arg)))
        .bin_name(shown.to_owned())
        .no_binary_name(true)
        .max_term_width(100)
        .about(header.summary.clone())
        .long_about(long_about(header))
        .after_help(after_help(header))
}

fn long_about(header: &Header) -> String {
    if header.doc.is_empty() || header.doc == header.summary {
        header.summary.clone()
    } else {
        format!("{}\n\n{}", header.summary, header.doc)
    }
}

fn after_help(header: &Header) -> String {
    let sections = [secrets(header), schedules(header)];
    sections.into_iter().filter(|section| !section.is_empty()).collect::<Vec<_>>().join("\n\n")
}

/// The secrets: only their variables give them.
fn secrets(header: &Header) -> String {
    let row = |param: &Param| {
        let help = param.help.clone().unwrap_or_default();
        let required = if param.required { " [required]" } else { "" };
        Some(vec![format!("  {}", param.env.as_ref()?), format!("{help}{required}").trim_start().to_owned()])
    };
    let rows: Vec<Vec<String>> = header.params.iter().filter(|param| param.secret).filter_map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("Secrets, from the environment or `.env` only:\n{}", columns(&rows).trim_end())
}

fn schedules(header: &Header) -> String {
    if header.schedule.is_empty() {
        return String::new();
    }
    let mut text = "Schedule:".to_owned();
    for schedule in &header.schedule {
        let zone = schedule.tz.as_ref().map(|tz| format!(" ({tz})")).unwrap_or_default();
        let words = words(header, schedule);
        let with = if words.is_empty() { String::new() } else { format!("  {}", words.join(" ")) };
        text += &format!("\n  {}{zone}{with}", schedule.cron);
    }
    text
}

fn arg(param: &Param) -> Arg {
    let help = help(param);
    let arg = Arg::new(id(param));
    if param.secret {
        // Known only to be refused, without its value in the message.
        return arg.long(param.flag()).num_args(0..=1).allow_hyphen_values(true).hide(true);
    }
    // An empty help would be a line of blanks.
    let arg = if help.is_empty() { arg } else { arg.help(help) };
    if param.kind == Kind::Bool {
        return arg.long(param.flag()).action(ArgAction::SetTrue);
    }
    let mut arg = arg.value_name(param.placeholder()).allow_negative_numbers(true);
    if param.positional {
        arg = arg.required(param.required && param.env.is_none());
    } else {
        arg = arg.long(param.flag());
    }
    if param.kind == Kind::List {
        arg = arg.action(ArgAction::Append);
        if param.positional {
            arg = arg.num_args(0..);
        }
    } else if param.optional_value.is_some() {
        arg = arg.num_args(0..=1);
    }
    if !param.choices.is_empty() {
        arg = arg
            .value_parser(PossibleValuesParser::new(param.choices.iter().map(text)))
            .hide_possible_values(true);
    }
    arg
}

/// The help of a parameter: what it is, then what it is when it is not given.
fn help(param: &Param) -> String {
    let mut parts: Vec<String> = param.help.iter().cloned().collect();
    if param.kind == Kind::List && !param.positional {
        parts.push("(may be repeated)".to_owned());
    }
    if !param.choices.is_empty() {
        parts.push(format!("[one of: {}]", param.choices.iter().map(text).collect::<Vec<_>>().join(", ")));
    }
    match &param.default {
        Some(Value::Array(items)) if !items.is_empty() => {
            parts.push(format!("[default: {}]", items.iter().map(text).collect::<Vec<_>>().join(", ")));
        }
        Some(default @ (Value::String(_) | Value::Number(_))) => {
            parts.push(format!("[default: {}]", text(default)))
        }
        _ if param.required => parts.push("[required]".to_owned()),
        _ => {}
    }
    parts.extend(param.optional_value.as_ref().map(|value| format!("[without a value: {}]", text(value))));
    parts.extend(param.env.as_ref().map(|name| format!("[env: {name}]")));
    parts.join(" ")
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What the command line gives for the parameters; what it does not give is left out.
pub fn given(header: &Header, matches: &ArgMatches) -> Given {
    let mut given = Given::new();
    for param in &header.params {
        let id = id(param);
        // A flag that clap does not know, since its name is taken, gives nothing.
        if !matches.try_contains_id(&id).unwrap_or(false)
            || matches.value_source(&id) != Some(ValueSource::CommandLine)
        {
            continue;
        }
        let texts = match param.kind {
            Kind::Bool => Vec::new(),
            _ => matches.get_many::<String>(&id).unwrap_or_default().cloned().collect(),
        };
        given.insert(param.name.clone(), texts);
    }
    given
}

/// The words that give the parameters of a schedule on a command line, not quoted.
pub fn words(header: &Header, schedule: &Schedule) -> Vec<String> {
    let mut flags = Vec::new();
    let mut positional = Vec::new();
    for param in &header.params {
        let Some(value) = schedule.params.get(&param.name) else { continue };
        let texts = match value {
            Value::Array(items) => items.iter().map(text).collect(),
            value => vec![text(value)],
        };
        if param.positional {
            positional.extend(texts);
        } else if param.kind == Kind::Bool {
            if param.default.as_ref() != Some(value) {
                flags.push(format!("--{}", param.flag()));
            }
        } else {
            for text in texts {
                // What begins with a dash would be taken for a flag.
                if text.starts_with('-') {
                    flags.push(format!("--{}={text}", param.flag()));
                } else {
                    flags.extend([format!("--{}", param.flag()), text]);
                }
            }
        }
    }
    if positional.iter().any(|text| text.starts_with('-')) {
        flags.push("--".to_owned());
    }
    flags.extend(positional);
    flags
}

/// Headers that tests of several files use.
#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::script::header;
    use crate::script::library::{Origin, Playbook};
    use expect_test::expect;

    /// A playbook with a parameter of every kind.
    pub const EVERY_KIND: &str = r#"//! Takes a dump, packs it and proves it.
//!
//! The dump is one file.
const PLAYBOOK = #{
    summary: "Back up the database",
    params: #{
        retention: #{ default_value: 30, env: "BACKUP_RETENTION_DAYS", help: "Days to keep backups" },
        dir: #{ default_value: "backups/database", env: "BACKUP_DIR", help: "Where backups go", path: true },
        tag: #{ default_value: "manual", choices: ["manual", "daily"], help: "Why it is made" },
        ratio: 0.5,
        exclude: #{ list: true, help: "Patterns to leave out" },
        database: #{ type: "string", optional_value: "latest", help: "Restore the database", value_name: "FILE" },
        config: #{ default_value: true, help: "Do not back up the configuration" },
        force: #{ default_value: false, help: "Do it anyway" },
        token: #{ secret: true, env: "TOKEN", help: "Key of the service" },
        keep_free: #{ type: "size", required: true, help: "Space to leave" },
        files: #{ list: true, positional: true, help: "What to look at" },
    },
    schedule: [
        #{ cron: "0 2 * * *", params: #{ tag: "daily", keep_free: "1GiB" } },
        #{ cron: "0 3 * * 0", tz: "Europe/Berlin",
           params: #{ config: false, force: false, keep_free: "1GiB", exclude: ["a b", "-x"], files: ["f"] } },
    ],
};
"#;

    /// The header of a playbook's text.
    pub fn header_of(source: &str) -> Header {
        header::header(&playbook("backup_database", source)).unwrap()
    }

    /// A playbook of the project.
    pub fn playbook(name: &str, source: &str) -> Playbook {
        Playbook {
            name: name.into(),
            origin: Origin::Project,
            path: None,
            file: format!("playbooks/{name}.rhai"),
            source: source.into(),
        }
    }

    fn parse(words: &[&str]) -> Result<Given, String> {
        let header = header_of(EVERY_KIND);
        let matches = command(&header, "lifeboat backup_database")
            .try_get_matches_from(words)
            .map_err(|error| error.to_string())?;
        Ok(given(&header, &matches))
    }

    #[test]
    fn help_shows_summary_parameters_and_schedule() {
        let header = header_of(EVERY_KIND);
        let mut command = command(&header, "lifeboat backup_database").term_width(100);
        expect![[r#"
            Back up the database

            Takes a dump, packs it and proves it.

            The dump is one file.

            Usage: lifeboat backup_database [OPTIONS] [FILES]...

            Arguments:
              [FILES]...
                      What to look at

            Options:
                  --retention <RETENTION>
                      Days to keep backups [default: 30] [env: BACKUP_RETENTION_DAYS]

                  --dir <DIR>
                      Where backups go [default: backups/database] [env: BACKUP_DIR]

                  --tag <TAG>
                      Why it is made [one of: manual, daily] [default: manual]

                  --ratio <RATIO>
                      [default: 0.5]

                  --exclude <EXCLUDE>
                      Patterns to leave out (may be repeated)

                  --database [<FILE>]
                      Restore the database [without a value: latest]

                  --no-config
                      Do not back up the configuration

                  --force
                      Do it anyway

                  --keep-free <KEEP_FREE>
                      Space to leave [required]

              -h, --help
                      Print help (see a summary with '-h')

            Global options:
                  --project <DIR>
                      Project folder [default: the nearest one above with `lifeboat.toml` or `playbooks/`] [env:
                      LIFEBOAT_PROJECT]

                  --dry-run
                      Show what would be done, and change nothing

              -y, --yes
                      Answer every question with yes, in advance

                  --json
                      Write JSON to stdout

              -q, --quiet
                      Tell errors only

              -v, --verbose
                      Tell also what was asked, and what other programs print

                  --color <WHEN>
                      Use colours: `auto`, `always` or `never` [default: auto]

            Secrets, from the environment or `.env` only:
              TOKEN  Key of the service

            Schedule:
              0 2 * * *  --tag daily --keep-free 1GiB
              0 3 * * 0 (Europe/Berlin)  --exclude a b --exclude=-x --no-config --keep-free 1GiB f
        "#]].assert_eq(&command.render_long_help().to_string());
        expect![[r#"
            Back up the database

            Usage: lifeboat backup_database [OPTIONS] [FILES]...

            Arguments:
              [FILES]...  What to look at

            Options:
                  --retention <RETENTION>  Days to keep backups [default: 30] [env: BACKUP_RETENTION_DAYS]
                  --dir <DIR>              Where backups go [default: backups/database] [env: BACKUP_DIR]
                  --tag <TAG>              Why it is made [one of: manual, daily] [default: manual]
                  --ratio <RATIO>          [default: 0.5]
                  --exclude <EXCLUDE>      Patterns to leave out (may be repeated)
                  --database [<FILE>]      Restore the database [without a value: latest]
                  --no-config              Do not back up the configuration
                  --force                  Do it anyway
                  --keep-free <KEEP_FREE>  Space to leave [required]
              -h, --help                   Print help (see more with '--help')

            Global options:
                  --project <DIR>  Project folder [default: the nearest one above with `lifeboat.toml` or
                                   `playbooks/`] [env: LIFEBOAT_PROJECT]
                  --dry-run        Show what would be done, and change nothing
              -y, --yes            Answer every question with yes, in advance
                  --json           Write JSON to stdout
              -q, --quiet          Tell errors only
              -v, --verbose        Tell also what was asked, and what other programs print
                  --color <WHEN>   Use colours: `auto`, `always` or `never` [default: auto]

            Secrets, from the environment or `.env` only:
              TOKEN  Key of the service

            Schedule:
              0 2 * * *  --tag daily --keep-free 1GiB
              0 3 * * 0 (Europe/Berlin)  --exclude a b --exclude=-x --no-config --keep-free 1GiB f
        "#]]
        .assert_eq(&command.render_help().to_string());
    }

    #[test]
    fn flags_become_what_is_given() {
        let words = "--retention -1 --no-config --force --database --exclude a,b --exclude c --tag daily x y";
        let given = parse(&words.split(' ').collect::<Vec<_>>()).unwrap();
        expect![[r#"
            {
                "config": [],
                "database": [],
                "exclude": [
                    "a,b",
                    "c",
                ],
                "files": [
                    "x",
                    "y",
                ],
                "force": [],
                "retention": [
                    "-1",
                ],
                "tag": [
                    "daily",
                ],
            }
        "#]]
        .assert_debug_eq(&given);
        assert_eq!(parse(&[]), Ok(Given::new()));
        assert_eq!(parse(&["--database", "f.gz"]).unwrap()["database"], ["f.gz"]);
    }

    #[test]
    fn wrong_flags_are_refused_with_what_was_meant() {
        expect![[r#"
            error: unexpected argument '--retension' found

              tip: a similar argument exists: '--retention'

            Usage: lifeboat backup_database --retention <RETENTION> [FILES]...

            For more information, try '--help'.
        "#]]
        .assert_eq(&parse(&["--retension", "14"]).unwrap_err());
        expect![[r#"
            error: invalid value 'hourly' for '--tag <TAG>'
              [possible values: manual, daily]

            For more information, try '--help'.
        "#]]
        .assert_eq(&parse(&["--tag", "hourly"]).unwrap_err());
        expect![[r#"
            error: a value is required for '--retention <RETENTION>' but none was supplied

            For more information, try '--help'.
        "#]]
        .assert_eq(&parse(&["--retention"]).unwrap_err());
        expect![[r#"
            error: the argument '--retention <RETENTION>' cannot be used multiple times

            Usage: lifeboat backup_database [OPTIONS] [FILES]...

            For more information, try '--help'.
        "#]]
        .assert_eq(&parse(&["--retention", "1", "--retention", "2"]).unwrap_err());
    }

    #[test]
    fn a_flag_that_is_taken_does_not_get_in_the_way() {
        let header = header_of(
            "const PLAYBOOK = #{ summary: \"x\", params: #{ json: false, project: \"p\", n: 1 } };\n",
        );
        let matches = command(&header, "lifeboat x").try_get_matches_from(["--json", "--n", "2"]).unwrap();
        assert_eq!(given(&header, &matches), Given::from([("n".to_owned(), vec!["2".to_owned()])]));
    }

    #[test]
    fn a_schedule_becomes_words() {
        let header = header_of(EVERY_KIND);
        assert_eq!(words(&header, &header.schedule[0]), ["--tag", "daily", "--keep-free", "1GiB"]);
        assert_eq!(
            words(&header, &header.schedule[1]),
            ["--exclude", "a b", "--exclude=-x", "--no-config", "--keep-free", "1GiB", "f"]
        );
    }
}
