//! The laws that every action keeps, tried on each by one table. An action without a case fails here.

mod cases;
mod children;
mod world;

use cases::{Again, CASES, Case};
use children::Children;
use lifeboat::base::cancel::Reason;
use lifeboat::base::event::{Event, What};
use lifeboat::base::failure::{Code, Failure};
use lifeboat::base::plan::Later;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use world::{Intents, PASSWORD, WEBHOOK, World};

/// Cases with a server of their own in each world, named like the action.
const OWN_SERVER: [&str; 4] = ["remove_database", "restore", "rollback_database", "scratch_database"];

/// What one case left when it was performed live, twice, and its failing sibling once.
struct Lived {
    case: &'static Case,
    project: PathBuf,
    /// The plan as JSON, and as it comes back from its codec.
    plan: (Value, Value),
    /// The output of the first time, likewise.
    output: (Value, Value),
    /// Names of the files that the first time made, removed or changed.
    changed: BTreeSet<String>,
    again: Result<Value, Failure>,
    failure: Option<Failure>,
    events: Vec<Event>,
    journal: String,
    children: BTreeSet<String>,
}

/// Every case, lived through once for all laws that look at what comes of it.
fn lived() -> &'static [Lived] {
    static LIVED: OnceLock<Vec<Lived>> = OnceLock::new();
    LIVED.get_or_init(|| CASES.iter().map(live_through).collect())
}

fn live_through(case: &'static Case) -> Lived {
    let fine = |failure: &Failure| format!("{}: {failure}", case.name);
    let world = World::new();
    let action = (case.set_up)(&world);
    let children = Children::watch();
    let session = world.live();
    let plan = action.plan(session.facts()).map_err(|failure| fine(&failure)).unwrap();
    let before = world.files();
    let first = action.perform(&session).map_err(|failure| fine(&failure)).unwrap();
    let changed = difference(&before, &world.files());
    let output = first.now().unwrap_or_else(|| panic!("{}: a live run knows what it returns", case.name));
    let again = action.perform(&session).map(|output| output.now().unwrap().0);
    let failure = case.failing.map(|failing| match failing(&world).perform(&session) {
        Err(failure) => failure,
        Ok(output) => panic!("{}: succeeded: {output:?}", case.name),
    });
    drop(session);
    Lived {
        case,
        project: world.at(""),
        plan,
        output,
        changed,
        again,
        failure,
        events: world.events(),
        journal: world.journal(),
        children: children.end(),
    }
}

fn difference<T: PartialEq>(a: &BTreeMap<String, T>, b: &BTreeMap<String, T>) -> BTreeSet<String> {
    a.keys().chain(b.keys()).filter(|name| a.get(*name) != b.get(*name)).cloned().collect()
}

fn removed(
    before: &BTreeMap<String, (u32, Vec<u8>)>,
    after: &BTreeMap<String, (u32, Vec<u8>)>,
) -> Vec<String> {
    before
        .iter()
        .filter(|(name, file)| after.get(*name) != Some(file))
        .map(|(name, _)| name.clone())
        .collect()
}

#[test]
fn every_action_has_a_case_and_stands_in_the_list() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/action");
    let mut written = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        let names = text.split("const NAME: &'static str = \"").skip(1);
        written.extend(names.map(|rest| rest.split('"').next().unwrap().to_owned()));
    }
    written.sort();
    assert_eq!(lifeboat::action::NAMES, written);
    let world = World::new();
    let tried: BTreeSet<&str> = CASES
        .iter()
        // These need a server of their own to be made.
        .map(|case| if OWN_SERVER.contains(&case.name) { case.name } else { (case.set_up)(&world).verb() })
        .collect();
    assert_eq!(tried.into_iter().collect::<Vec<_>>(), written);
}

#[test]
fn what_was_forecast_is_what_comes() {
    for lived in lived() {
        let forecast = &lived.plan.0["forecast"];
        let mut compared = 0;
        if let Some(forecast) = forecast.get("now") {
            agree(lived.case.name, forecast, &lived.output.0, &mut compared);
        }
        let opaque = ["exec", "restore", "scratch_postgres", "verify"].contains(&lived.case.name);
        assert_eq!(compared == 0, opaque, "{}: {compared} fields were forecast", lived.case.name);
        for made in lived.case.makes {
            assert!(lived.changed.contains(*made), "{}: {made}: {:?}", lived.case.name, lived.changed);
        }
    }
}

/// Compares a forecast with the output wherever it is known.
fn agree(name: &str, forecast: &Value, output: &Value, compared: &mut u32) {
    match (forecast, output) {
        (Value::String(unknown), output) if unknown == "after_run" => {
            assert!(output.get("now").is_some(), "{name}: {output} is still unknown");
        }
        (Value::Object(forecast), Value::Object(output)) => {
            assert!(forecast.keys().eq(output.keys()), "{name}: {forecast:?} {output:?}");
            for (key, value) in forecast {
                agree(&format!("{name}.{key}"), value, &output[key], compared);
            }
        }
        (Value::Array(forecast), Value::Array(output)) => {
            assert_eq!(forecast.len(), output.len(), "{name}");
            forecast.iter().zip(output).for_each(|(a, b)| agree(name, a, b, compared));
            *compared += 1;
        }
        _ => {
            assert_eq!(forecast, output, "{name}");
            *compared += 1;
        }
    }
}

#[test]
fn plans_and_outputs_survive_their_codecs() {
    for lived in lived() {
        assert_eq!(lived.plan.0, lived.plan.1, "{}", lived.case.name);
        assert_eq!(lived.output.0, lived.output.1, "{}", lived.case.name);
        let recorded = lived.events.iter().find_map(|event| match &event.what {
            What::ActionEnded { output, .. } => Some(output),
            _ => None,
        });
        assert_eq!(recorded, Some(&lived.output.0), "{}", lived.case.name);
        for event in &lived.events {
            let json = serde_json::to_value(event).unwrap();
            assert_eq!(serde_json::from_value::<Event>(json).unwrap(), *event, "{}", lived.case.name);
        }
    }
}

#[test]
fn no_secret_is_in_anything_that_is_shown_or_kept() {
    use base64::Engine as _;
    // Quoted, escaped or percent-encoded, these letters stay as they are.
    let mut forms = vec!["C0ntr4ct".to_owned(), "s3cr3t".to_owned(), "t0k3n".to_owned()];
    for secret in [PASSWORD, WEBHOOK] {
        let base64 = base64::engine::general_purpose::STANDARD.encode(secret);
        forms.push(base64.trim_end_matches('=')[..24].to_owned());
        forms.push(secret.bytes().map(|byte| format!("{byte:02x}")).collect());
    }
    let mut failed = 0;
    for lived in lived() {
        let failure = lived.failure.iter().map(|failure| {
            failed += 1;
            format!("{failure}\n{failure:?}\n{}", serde_json::to_string(failure).unwrap())
        });
        let again = format!("{:?}", lived.again);
        let shown = [
            ("plan", lived.plan.0.to_string()),
            ("output", lived.output.0.to_string()),
            ("again", again),
            ("failure", failure.collect()),
            ("events", serde_json::to_string(&lived.events).unwrap()),
            ("journal", lived.journal.clone()),
        ];
        for (what, text) in &shown {
            for form in &forms {
                assert!(!text.contains(form), "{}: {form} in {what}: {text}", lived.case.name);
            }
        }
        // Children of other tests hold secrets of the same beginning, on purpose.
        for argv in &lived.children {
            assert!(!argv.contains("C0ntr4ct"), "{}: {argv}", lived.case.name);
        }
        assert!(lived.journal.contains("\"event\":\"planned\""), "{}", lived.journal);
    }
    assert_eq!(failed, CASES.iter().filter(|case| case.failing.is_some()).count());
    let ran = |name: &str, program: &str| {
        let lived = lived().iter().find(|lived| lived.case.name == name).unwrap();
        assert!(lived.children.iter().any(|argv| argv.contains(program)), "{:?}", lived.children);
        lived
    };
    ran("save of a dump", "--lock-wait-timeout");
    let exec = ran("exec", "echo \"got $GIVEN\"");
    assert_eq!((&exec.output.0["stdout"], &exec.output.0["code"]), (&"got ***\n".into(), &0.into()));
}

#[test]
fn a_dry_session_changes_nothing() {
    for case in CASES {
        let world = World::new();
        let action = (case.set_up)(&world);
        let (before, journal, rest) = (world.tree(), world.journal(), (case.rest)(&world));
        let session = world.dry();
        let forecast = action.perform(&session).unwrap_or_else(|failure| panic!("{}: {failure}", case.name));
        let shown = planned(&world.events(), &world.at(""));
        assert_eq!(forecast.now().is_some(), shown["forecast"].get("now").is_some(), "{}", case.name);
        // The socket of a scratch server is another one in each world.
        if !OWN_SERVER.contains(&case.name) {
            let lived = lived().iter().find(|lived| lived.case.name == case.name).unwrap();
            assert_eq!(shown, planned(&lived.events, &lived.project), "{}", case.name);
        }
        assert!(world.tree() == before, "{}: {:?}", case.name, difference(&before, &world.tree()));
        assert_eq!((case.rest)(&world), rest, "{}", case.name);
        assert_eq!(world.journal(), journal, "{}", case.name);
        let began = world.events().iter().any(|event| matches!(event.what, What::ActionBegun { .. }));
        assert!(!began, "{}", case.name);
    }
}

/// The first plan that was shown, for any project.
fn planned(events: &[Event], project: &Path) -> Value {
    let plan = events.iter().find_map(|event| match &event.what {
        What::Planned { plan, .. } => Some(serde_json::to_string(plan).unwrap()),
        _ => None,
    });
    let project = project.display().to_string();
    serde_json::from_str(&plan.unwrap().replace(project.trim_end_matches('/'), "PROJECT")).unwrap()
}

#[test]
fn without_a_durable_intent_nothing_is_destroyed() {
    for case in CASES {
        let world = World::new();
        let action = (case.set_up)(&world);
        let refusal = Failure::new(Code::Journal, "the journal is full");
        let intents = Arc::new(Intents { refusal: Some(refusal.clone()), ..Intents::default() });
        let before = world.files();
        let result = action.perform(&world.live_with(intents.clone()));
        let after = world.files();
        let asked = intents.asked.lock().unwrap().clone();
        assert_eq!(removed(&before, &after), [""; 0], "{}", case.name);
        match case.intent {
            None => {
                assert!(result.is_ok(), "{}: {result:?}", case.name);
                assert_eq!(asked, [""; 0], "{}", case.name);
            }
            Some(intent) => {
                assert_eq!(result.err(), Some(refusal), "{}", case.name);
                assert!(asked.len() == 1 && asked[0].starts_with(intent), "{}: {asked:?}", case.name);
                assert_eq!(difference(&before, &after), BTreeSet::new(), "{}", case.name);
            }
        }
    }
}

#[test]
fn a_second_time_replaces_no_backup_and_finds_nothing_left_to_do() {
    for lived in lived() {
        let name = lived.case.name;
        match (&lived.case.again, &lived.again) {
            (Again::Refuses(text), Err(failure)) => {
                assert!(failure.to_string().contains(text), "{name}: {failure}");
            }
            (Again::Returns(but), Ok(again)) => {
                let without = |value: &Value| {
                    let mut value = value.clone();
                    but.iter().for_each(|field| {
                        assert!(value.as_object_mut().unwrap().remove(*field).is_some(), "{name}: {field}");
                    });
                    value
                };
                assert_eq!(without(again), without(&lived.output.0), "{name}");
            }
            (Again::Idle(expected), Ok(again)) => assert_eq!(*again, expected(), "{name}"),
            (_, again) => panic!("{name}: {again:?}"),
        }
    }
}

/// Performs a case whose end is asked for at one moment, and sees whether it did all or nothing.
fn cancelled(lived: &Lived, number: usize, reason: Reason) {
    let case = lived.case;
    let world = World::new();
    let action = (case.set_up)(&world);
    let (before, rest) = (world.files(), (case.rest)(&world));
    world.cancel_at(number, reason);
    let intents = Arc::new(Intents::default());
    let result = action.perform(&world.live_with(intents));
    // How often a stream tells its progress differs from run to run.
    let event = world.events().get(number).map(|event| event.what.clone());
    let must_end = matches!(event, Some(What::Planned { .. } | What::Progress(_) | What::Output { .. }));
    let moment = format!("event {number}: {event:?}");
    assert!(!must_end || result.is_err(), "{}, {moment}: {result:?}", case.name);
    all_or_nothing(lived, &world, result, &before, &rest, reason, &moment);
}

fn all_or_nothing(
    lived: &Lived,
    world: &World,
    result: Result<Later<(Value, Value)>, Failure>,
    before: &BTreeMap<String, (u32, Vec<u8>)>,
    rest: &str,
    reason: Reason,
    moment: &str,
) {
    let name = lived.case.name;
    match result {
        Ok(_) => assert_eq!(difference(before, &world.files()), lived.changed, "{name}, {moment}"),
        Err(failure) => {
            let code = if reason == Reason::Interrupted { Code::Interrupted } else { Code::Terminated };
            assert_eq!(failure.code, code, "{name}, {moment}: {failure}");
            let gone: BTreeSet<String> = difference(before, &world.files());
            let leftovers = |file: &String| file.contains("dead.tar.gz");
            assert!(gone.iter().all(leftovers), "{name}, {moment}: {gone:?}");
            assert_eq!((lived.case.rest)(world), rest, "{name}, {moment}");
        }
    }
}

#[test]
fn cancelled_at_any_event_it_did_all_or_nothing() {
    for lived in lived() {
        let first: Vec<&What> = lived
            .events
            .iter()
            .map(|event| &event.what)
            .skip_while(|what| !matches!(what, What::Planned { .. }))
            .take_while(|what| !matches!(what, What::ActionEnded { .. }))
            .collect();
        let skipped =
            lived.events.iter().take_while(|event| !matches!(event.what, What::Planned { .. })).count();
        // Some plans read a backup first, and tell how far they are.
        let early = &lived.events[..skipped];
        let quiet = early.iter().all(|event| matches!(event.what, What::Progress(_)));
        assert!(quiet, "{}: events before the plan: {early:?}", lived.case.name);
        let last = skipped + first.len() - 1;
        let numbers: BTreeSet<usize> =
            [0, skipped, skipped + 1, skipped + 2, skipped + 3, last / 2, last.saturating_sub(1), last]
                .into_iter()
                .filter(|number| *number <= last)
                .collect();
        for number in numbers {
            let reason = if number % 2 == 0 { Reason::Interrupted } else { Reason::Terminated };
            cancelled(lived, number, reason);
        }
    }
}

#[test]
fn cancelled_before_it_begins_it_is_not_even_planned() {
    for lived in lived() {
        let world = World::new();
        let action = (lived.case.set_up)(&world);
        let (before, rest) = (world.files(), (lived.case.rest)(&world));
        world.host.cancel().cancel(Reason::Interrupted);
        let result = action.perform(&world.live_with(Arc::new(Intents::default())));
        assert!(result.is_err(), "{}", lived.case.name);
        all_or_nothing(lived, &world, result, &before, &rest, Reason::Interrupted, "before");
        assert_eq!(world.events(), [], "{}", lived.case.name);
    }
}

#[test]
fn cancelled_at_its_intent_it_did_all_or_nothing() {
    for lived in lived().iter().filter(|lived| lived.case.intent.is_some()) {
        let world = World::new();
        let action = (lived.case.set_up)(&world);
        let (before, rest) = (world.files(), (lived.case.rest)(&world));
        let cancel = Some(world.host.cancel().clone());
        let intents = Arc::new(Intents { cancel, ..Intents::default() });
        let result = action.perform(&world.live_with(intents.clone()));
        assert_eq!(intents.asked.lock().unwrap().len(), 1, "{}: {result:?}", lived.case.name);
        all_or_nothing(lived, &world, result, &before, &rest, Reason::Terminated, "intent");
    }
}

#[test]
fn cancelled_while_it_publishes_it_did_all_or_nothing() {
    for lived in lived().iter().filter(|lived| lived.case.makes.len() > 1) {
        let world = World::new();
        let action = (lived.case.set_up)(&world);
        let before = world.files();
        let manifest = world.at(lived.case.makes.iter().find(|name| name.ends_with(".json")).unwrap());
        let cancel = world.host.cancel().clone();
        let session = world.live_with(Arc::new(Intents::default()));
        let result = std::thread::scope(|scope| {
            // The first sidecar has its name: the backup itself gets its own within a few milliseconds, or not at all.
            let canceller = scope.spawn(|| {
                let began = std::time::Instant::now();
                while !manifest.exists() && began.elapsed() < crate::aftermath::PATIENCE {
                    std::hint::spin_loop();
                }
                cancel.cancel(Reason::Terminated);
            });
            let result = action.perform(&session);
            canceller.join().unwrap();
            result
        });
        all_or_nothing(lived, &world, result, &before, "", Reason::Terminated, "publishing");
    }
}
