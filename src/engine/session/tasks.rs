//! Tasks of maintenance that a run did, or was told of.

use super::Session;
use crate::base::event::{Level, What};
use crate::base::failure::{Code, Failure};
use crate::base::task::TaskRecord;
use crate::journal::tasks;

impl Session {
    /// Notes that a task was done, durably; a dry run tells that it would. In a drill it is noted in the sandbox.
    ///
    /// # Errors
    /// When it cannot be written down: the task would be taken for one that was not done.
    pub fn task_done(&self, task: &str, detail: &str) -> Result<(), Failure> {
        let (task, detail) = (self.host.masker().mask(task), self.host.masker().mask(detail));
        let Some(live) = &self.live else {
            self.log(Level::Info, &format!("would note that {task} is done: {detail}"));
            return Ok(());
        };
        let record = TaskRecord::new(&task, self.host.began().fixed_offset(), &live.run, &detail);
        tasks::keep(self.host.state(), &record, self.host.clock().now()).map_err(|failure| {
            let told = Failure::new(Code::Journal, format!("cannot note that `{task}` is done"));
            failure.hints.iter().fold(told.caused_by(&failure), |told, hint| told.hint(hint))
        })?;
        self.host.emit(What::TaskDone { task, detail });
        Ok(())
    }
}
