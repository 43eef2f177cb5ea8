//! Labels of ofelia, as a file for docker-compose.
//!
//! ofelia 0.2 reads cron expressions with a field of seconds that must be there, where later ones may leave it out: six fields
//! mean the same to both. It takes a job's container from the labels that stand on that container.

use crate::daemon::export::{Export, Job, Piece, Site, slug, yaml};

/// Where the jobs run.
#[derive(Clone, Debug)]
pub struct Container {
    /// The image that has Lifeboat, and the programs that playbooks call.
    pub image: String,
    /// The project's folder in it.
    pub dir: String,
}

/// A compose file with the scheduler and the container that it runs the jobs in.
pub fn export(jobs: &[Job], site: &Site, container: &Container) -> Export {
    let mut export = Export::default();
    let mut labels = String::new();
    for job in jobs {
        let cron = job
            .calendar("ofelia")
            .and_then(|calendar| calendar.cron_with_seconds().map_err(|why| job.refused("ofelia", &why)));
        match cron {
            Ok(cron) => {
                let name = slug(&format!("{}-{}", job.playbook, job.schedule), "_-");
                let text = text(job, &name, &cron, container);
                labels += &text;
                export.pieces.push(Piece::of(job, Some(name), text));
            }
            Err(failure) => export.left_out.push(failure),
        }
    }
    let (image, dir, project) = (yaml_of(&container.image), &container.dir, &site.project);
    let volume = yaml_of(&format!("{project}:{dir}"));
    export.text = format!(
        "# Lifeboat: the schedules of {} for ofelia\n\
         # docker-compose -f docker-compose.yml -f THIS_FILE up -d\n\
         # What ofelia misses while it is down is made up for when the schedule comes next.\n\
         services:\n  scheduler:\n    image: mcuadros/ofelia:latest\n    command: daemon --docker\n    \
         depends_on:\n      - lifeboat\n    volumes:\n      - /var/run/docker.sock:/var/run/docker.sock:ro\n  \
         lifeboat:\n    image: {image}\n    entrypoint: [\"sleep\", \"infinity\"]\n    init: true\n    \
         working_dir: {}\n    volumes:\n      - {volume}\n    labels:\n      ofelia.enabled: \"true\"\n{labels}",
        site.project.replace('\n', " "),
        yaml_of(dir),
    );
    export
}

fn text(job: &Job, name: &str, cron: &str, container: &Container) -> String {
    let schedule = match job.tz {
        Some(zone) => format!("CRON_TZ={zone} {cron}"),
        None => cron.to_owned(),
    };
    let words = ["lifeboat", "--project", &container.dir, "run", "--scheduled", &job.schedule, &job.playbook];
    let command = words.map(quoted).join(" ");
    let label = |key: &str, value: &str| format!("      ofelia.job-exec.{name}.{key}: {}\n", yaml_of(value));
    format!("{}{}", label("schedule", &schedule), label("command", &command))
}

/// A word as ofelia splits commands: blanks and brackets hold together within double quotes.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("\"{}\"", word.replace('\\', r"\\").replace('"', "\\\""))
    }
}

/// A scalar of a compose file, where a dollar stands for a variable.
fn yaml_of(text: &str) -> String {
    yaml(&text.replace('$', "$$"))
}
