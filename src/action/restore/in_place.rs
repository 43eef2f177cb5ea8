//! Without the right to make databases: everything that the role owns in the live database is replaced, in one transaction.

use super::{Basis, Restore, Restored};
use crate::base::failure::{Code, Failure};
use crate::base::plan::Plan;
use crate::sys::effects::Effects;
use crate::sys::facts::Facts;
use crate::sys::proof::Proof;
use std::path::Path;

/// Plans a restore in place.
pub(super) fn plan(
    _: &Restore,
    _: &Facts,
    _: &Path,
    _: &Proof,
    _: &mut Plan<Restored>,
) -> Result<Basis, Failure> {
    Err(Failure::new(Code::Usage, "in_place is not there yet"))
}

/// Carries it out.
pub(super) fn execute(_: &Restore, _: &Basis, _: &Effects) -> Result<Restored, Failure> {
    Err(Failure::new(Code::Usage, "in_place is not there yet"))
}
