//! Pre-flight checks: what must be there before anything is done.

use crate::base::failure::{Code, Failure};
use crate::base::plan::Need;
use crate::observe::disk_space::DiskSpaceOf;
use crate::observe::exists::Exists;
use crate::observe::require_disk_space::RequireDiskSpace;
use crate::observe::require_program::RequireProgram;
use crate::observe::require_writable::RequireWritable;
use crate::script::bind::time::{Bytes, size};
use crate::script::bind::{known_text, observe};
use crate::script::context::{Raised, RunContext};
use crate::script::fault;
use crate::script::value::IntoScript;
use crate::sys::facts::DiskSpace;
use rhai::Map;
use rhai::plugin::*;

/// Gives an engine this family.
pub fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
}

impl IntoScript for DiskSpace {
    fn into_script(self) -> Dynamic {
        let mut map = Map::new();
        map.insert("available".into(), Bytes(self.available).into_script());
        map.insert("total".into(), Bytes(self.total).into_script());
        map.into()
    }
}

#[export_module]
mod functions {
    /// Checks that a program can be run here; returns its path: `require_program("npm")`.
    #[rhai_fn(volatile, return_raw)]
    pub fn require_program(ctx: NativeCallContext, program: &str) -> Result<Dynamic, Raised> {
        observe(&ctx, &RequireProgram::new(known_text(program)?), false)
    }

    /// Whether a file or folder is at a path: `if exists("package.json") { ... }`.
    #[rhai_fn(volatile, return_raw)]
    pub fn exists(ctx: NativeCallContext, path: &str) -> Result<Dynamic, Raised> {
        observe(&ctx, &Exists { path: known_text(path)?.into() }, false)
    }

    /// Space of the file system that holds a path, as `available` and `total`: `disk_space("backups").available`.
    #[rhai_fn(volatile, return_raw)]
    pub fn disk_space(ctx: NativeCallContext, path: &str) -> Result<Dynamic, Raised> {
        observe(&ctx, &DiskSpaceOf { path: known_text(path)?.into() }, false)
    }

    /// Checks that so much space is free where a folder is or will be: `require_disk_space(dir, bytes("10 GiB"))`.
    #[rhai_fn(volatile, return_raw)]
    pub fn require_disk_space(ctx: NativeCallContext, dir: &str, needed: Dynamic) -> Result<Dynamic, Raised> {
        let bytes = size("require_disk_space", &needed)?;
        observe(&ctx, &RequireDiskSpace { dir: known_text(dir)?.into(), bytes }, false)
    }

    /// Checks that files can be made in a folder, which may have to be made itself: `require_writable("backups")`.
    #[rhai_fn(volatile, return_raw)]
    pub fn require_writable(ctx: NativeCallContext, dir: &str) -> Result<Dynamic, Raised> {
        observe(&ctx, &RequireWritable { dir: known_text(dir)?.into() }, false)
    }

    /// Checks that an environment variable is set and not empty: `require_env("DEPLOY_TOKEN")`.
    #[rhai_fn(volatile, return_raw)]
    pub fn require_env(ctx: NativeCallContext, name: &str) -> Result<(), Raised> {
        let name = known_text(name)?;
        let context = RunContext::of(&ctx)?;
        let session = context.session()?;
        session.policy().authorize(&[Need::Env(name.to_owned())], "require_env").map_err(fault::raise)?;
        if session.host().env().value(name).is_some() {
            return Ok(());
        }
        let failure = Failure::new(Code::NotFound, format!("the environment variable `{name}` is not set"));
        Err(fault::raise(
            failure.hint(format!("Set `{name}` in the environment or in the project's `.env`.")),
        ))
    }
}
