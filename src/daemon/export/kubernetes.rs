//! CronJobs of Kubernetes.

use crate::base::failure::{Code, Failure};
use crate::base::schedule::{Missed, Overlap};
use crate::daemon::export::ofelia::Container;
use crate::daemon::export::systemd::GRACE;
use crate::daemon::export::{Export, Job, Piece, Site, slug, yaml};
use std::time::Duration;

/// A name of a CronJob has no more characters, since a job's and a pod's are made from it.
const LONGEST: usize = 52;

/// CronJobs that run in `container`, whose project is the volume of the claim `claim`; `here` is the time zone of those that
/// name none.
pub fn export(jobs: &[Job], site: &Site, container: &Container, claim: &str) -> Export {
    let mut export = Export::default();
    for job in jobs {
        let cron = job.calendar("Kubernetes").and_then(|calendar| {
            let cron = calendar.cron().map_err(|why| job.refused("Kubernetes", &why))?;
            Ok((cron, calendar.most_in_a_day()))
        });
        match cron {
            Ok((cron, in_a_day)) => {
                if job.terms.overlap == Overlap::Queue {
                    export.notes.push(waits(job));
                }
                let name = name(job, site);
                let text = text(job, &name, &cron, in_a_day, container, claim);
                export.text += &text;
                export.pieces.push(Piece::of(job, Some(name), text));
            }
            Err(failure) => export.left_out.push(failure),
        }
    }
    export
}

fn waits(job: &Job) -> Failure {
    Failure::new(
        Code::Usage,
        format!("{} queues, and Kubernetes lets no job wait for another", job.called()),
    )
    .at(Some(job.at.clone()))
    .hint("The CronJob has `concurrencyPolicy: Allow`: its pod waits itself, which needs a volume that several pods may use.")
}

/// A name of lower-case letters, digits and dashes that fits.
fn name(job: &Job, site: &Site) -> String {
    let whole = format!("lifeboat-{}-{}-{}", site.name, job.playbook, job.schedule).replace('_', "-");
    let lower = whole.to_lowercase();
    if lower == slug(&lower, "-") && lower.len() <= LONGEST {
        return lower;
    }
    // Any other name gets the digits that tell it from others, at its end, where they survive the cut.
    let named = slug(&format!("{whole} "), "-").to_lowercase();
    let (head, digits) = named.rsplit_once('-').unwrap_or(("lifeboat", &named));
    let head: String = head.chars().take(LONGEST - digits.len() - 1).collect();
    format!("{}-{digits}", head.trim_matches('-'))
}

fn text(job: &Job, name: &str, cron: &str, in_a_day: usize, container: &Container, claim: &str) -> String {
    let seconds = |span: Duration| span.as_secs().max(1);
    let mut spec = format!("  schedule: {}\n", yaml(cron));
    spec += &format!("  timeZone: {}\n", yaml(job.timetable.zone().name()));
    let policy = match job.terms.overlap {
        Overlap::Skip => "Forbid",
        Overlap::Kill => "Replace",
        Overlap::Queue => "Allow",
    };
    spec += &format!("  concurrencyPolicy: {policy}\n");
    // Kubernetes counts the instants that were missed within the deadline, and starts nothing when there are over a hundred.
    let deadline = match (job.terms.max_lateness, job.terms.missed) {
        (Some(limit), _) => seconds(limit),
        (None, Missed::Skip) => 60,
        (None, Missed::Once | Missed::All) if in_a_day <= 90 => 86400,
        (None, Missed::Once | Missed::All) => 3600,
    };
    spec += &format!("  startingDeadlineSeconds: {}\n", deadline.max(10));
    let mut job_spec = "      backoffLimit: 0\n".to_owned();
    if let Some(timeout) = job.terms.timeout {
        let limit = seconds(timeout + job.terms.jitter) + 2 * seconds(GRACE);
        job_spec += &format!("      activeDeadlineSeconds: {limit}\n");
    }
    let args =
        ["--project", &container.dir, "run", "--grace", "60s", "--scheduled", &job.schedule, &job.playbook];
    let args = args.map(yaml).join(", ");
    let (image, dir) = (yaml(&container.image), yaml(&container.dir));
    let zone = yaml(job.timetable.zone().name());
    format!(
        "---\napiVersion: batch/v1\nkind: CronJob\nmetadata:\n  name: {}\n  labels:\n    \
         app.kubernetes.io/name: lifeboat\n  annotations:\n    description: {}\nspec:\n{spec}  \
         successfulJobsHistoryLimit: 3\n  failedJobsHistoryLimit: 3\n  jobTemplate:\n    spec:\n{job_spec}      \
         template:\n        spec:\n          restartPolicy: Never\n          terminationGracePeriodSeconds: {}\n          \
         containers:\n            - name: lifeboat\n              image: {image}\n              command: [\"lifeboat\"]\n              \
         args: [{args}]\n              workingDir: {dir}\n              env:\n                - name: TZ\n                  \
         value: {zone}\n              volumeMounts:\n                - name: project\n                  mountPath: {dir}\n          \
         volumes:\n            - name: project\n              persistentVolumeClaim:\n                claimName: {}\n",
        yaml(name),
        yaml(&job.summary),
        GRACE.as_secs() + 30,
        yaml(claim),
    )
}
