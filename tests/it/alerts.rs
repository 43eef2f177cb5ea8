//! Alerts, provoked and read whole where they arrive.

mod channels;
mod discipline;
mod pings;

use crate::project::TestProject;

/// The machine's name, which alerts tell.
fn machine() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A project whose playbooks fail, succeed, and save a backup of `data`.
fn project() -> TestProject {
    TestProject::new()
        .playbook("bad", "step \"Dump\" { exec([\"false\"]); }")
        .playbook("well", "step \"x\" { info(\"well\"); }")
        .playbook(
            "either",
            "step \"x\" { exec([\"test\", \"-e\", \"go\"]); }\nstep \"y\" { if exists(\"odd\") { warn(\"odd\"); } }",
        )
        .playbook("save", "step \"Save\" { file(\"data\").save(`kept/data_${run_stamp()}.bin`, #{ tag: \"daily\" }); }")
}

/// A moment of the same day.
fn at(time: &str) -> String {
    format!("2025-11-10T{time}:00+00:00")
}

/// All that a project holds beside its secrets' own file, as one text.
fn all_text(project: &TestProject) -> String {
    let tree = project.tree(&[]);
    tree.values().map(|content| String::from_utf8_lossy(content).into_owned()).collect()
}
