use super::Project;
use crate::base::event::Level;
use serde_json::json;

#[test]
fn the_projects_copy_of_a_std_module_wins() {
    let text = "import \"std/backup\" as b;\nb::name()";
    assert_eq!(Project::new(text).live().value(), "shipped");
    let copied = Project::new(text).with("stdlib/backup.rhai", "fn name() { \"own\" }");
    assert_eq!(copied.live().value(), "own");
    let broken = Project::new(text).with("stdlib/backup.rhai", "fn name() {\n  nope()\n}");
    assert_eq!(
        broken.live().told(),
        "script stdlib/backup.rhai:2:3 unknown function `nope`\n  hint: `lifeboat doc` lists all functions.\n  in \
         stdlib/backup::name called at playbooks/p.rhai:2:4"
    );
}

#[test]
fn other_paths_are_relative_to_the_importing_file_then_to_the_playbooks() {
    let project = Project::new("import \"lib/a\" as a;\na::name()")
        .with(
            "playbooks/lib/a.rhai",
            "import \"b\" as b;\nimport \"c\" as c;\nfn name() { `a ${b::name()} ${c::name()}` }",
        )
        .with("playbooks/lib/b.rhai", "fn name() { \"beside\" }")
        .with("playbooks/b.rhai", "fn name() { \"wrong\" }")
        .with("playbooks/c.rhai", "fn name() { \"shared\" }");
    assert_eq!(project.live().value(), "a beside shared");
}

#[test]
fn paths_that_leave_the_folder_are_refused() {
    for path in ["/etc/x", "../x", "lib/../../x", "./x", ""] {
        let failure = Project::new(&format!("import \"{path}\" as x;")).live().failure();
        assert_eq!(failure.message, format!("`{path}` is not the path of a module"));
        assert_eq!(failure.at.unwrap().column, 8);
    }
}

#[test]
fn modules_that_are_missing_get_a_proposal() {
    assert_eq!(
        Project::new("import \"std/bakcup\" as b;").live().told(),
        "playbook playbooks/p.rhai:1:8 no module `std/bakcup`\n  hint: Did you mean `std/backup`?"
    );
    assert_eq!(
        Project::new("import \"lib/x\" as b;").live().told(),
        "playbook playbooks/p.rhai:1:8 no module `lib/x`\n  because there is no `lib/x.rhai` beside \
         `playbooks/p.rhai` nor in `playbooks`\n  hint: The modules of the standard library are `std/backup`, \
         `std/checks`."
    );
}

#[test]
fn modules_that_import_each_other_are_refused() {
    let project = Project::new("import \"a\" as a;")
        .with("playbooks/a.rhai", "import \"b\" as b;")
        .with("playbooks/b.rhai", "\nimport \"a\" as a;");
    assert_eq!(
        project.live().told(),
        "playbook playbooks/b.rhai:2:8 modules import each other\n  because `playbooks/a.rhai` imports \
         `playbooks/b.rhai` imports `playbooks/a.rhai`\n  hint: Move what both need into a third module.\n  in import \
         \"b\" called at playbooks/a.rhai:1:8\n  in import \"a\" called at playbooks/p.rhai:1:8"
    );
}

#[test]
fn a_syntax_error_in_a_module_is_told_in_its_file() {
    let project = Project::new("import \"a\" as a;").with("playbooks/a.rhai", "fn x() {\n  let y = ;\n}");
    assert_eq!(
        project.live().told(),
        "playbook playbooks/a.rhai:2:11 unexpected `;`\n  in import \"a\" called at playbooks/p.rhai:1:8"
    );
}

#[test]
fn importing_does_nothing() {
    for top in [
        "make(\"a\");",
        "step \"S\" { }",
        "attempt \"S\" { }",
        "info(\"x\");",
        "ask(\"x\");",
        "fn f() { ask(\"x\") }\nf();",
    ] {
        let ran = Project::new("import \"a\" as a;").with("playbooks/a.rhai", top).live();
        let failure = ran.failure();
        assert_eq!(failure.message, "a module does something while it is imported", "{top}");
        assert_eq!(failure.at.unwrap().file, "playbooks/a.rhai", "{top}");
        assert_eq!(ran.events, [], "{top}");
    }
}

#[test]
fn functions_of_modules_act_in_steps_and_see_params() {
    let project = Project::new("import \"a\" as a;\nstep \"S\" { a::act() }")
        .with(
            "playbooks/a.rhai",
            "const N = 2;\nfn act() { step \"T\" { `${make(params.dir)} ${global::N}` } }",
        )
        .param("dir", "here");
    assert_eq!(project.live().value(), "made here 2");
}

#[test]
fn closures_of_modules_work_when_they_are_called_elsewhere() {
    let project = Project::new(
        "import \"a\" as a;\nlet f = a::adder(2);\nlet g = a::plain();\n\
         [f.call(40), retry(1, 0, g), [1, 2].map(f), a::apply(|x| x * 10, 4), expect(3, a::positive(), \"positive\")]",
    )
    .with(
        "playbooks/a.rhai",
        "import \"b\" as b;\nfn helper(x) { x + b::one() - 1 }\nfn adder(n) { |x| helper(x) + n }\nfn plain() { || helper(7) }\n\
         fn apply(f, x) { f.call(x) }\nfn positive() { |x| helper(x) > 0 }",
    )
    .with("playbooks/b.rhai", "fn one() { 1 }");
    assert_eq!(project.live().value(), json!([42, 7, [3, 4], 40, 3]));
}

#[test]
fn places_in_closures_name_the_file_they_stand_in() {
    let project = Project::new("import \"a\" as a;\nstep \"S\" {\n  a::apply(|| make(\"missing\"))\n}")
        .with("playbooks/a.rhai", "fn apply(f) {\n f.call()\n}");
    assert_eq!(
        project.live().told(),
        "not_found playbooks/p.rhai:3:15 `missing` is missing\n  hint: Make it.\n  in closure called at \
         playbooks/a.rhai:2:4\n  in playbooks/a::apply called at playbooks/p.rhai:3:6\n  step S"
    );
    let project = Project::new("import \"a\" as a;\nlet f = a::bad();\nretry(1, 0, f)")
        .with("playbooks/a.rhai", "fn bad() {\n || make(\"missing\")\n}");
    let failure = project.live().failure();
    assert_eq!(failure.at.unwrap().to_string(), "playbooks/a.rhai:2:5");
}

#[test]
fn a_module_is_evaluated_once() {
    let project = Project::new("import \"a\" as a;\nimport \"b\" as b;\nb::name() + a::name()")
        .with("playbooks/a.rhai", "print(\"loaded\");\nfn name() { \"a\" }")
        .with("playbooks/b.rhai", "import \"a\" as a;\nfn name() { a::name() }");
    let ran = project.live();
    assert_eq!(ran.value(), "aa");
    assert_eq!(ran.lines(), [(Level::Info, "loaded".to_owned())]);
}
