//! What a daemon is to do, read from the headers of the playbooks.

use crate::base::failure::Failure;
use crate::daemon::service::Orders;
use crate::daemon::timer::Job;
use crate::daemon::watch_set::WatchSet;
use crate::script::header::{Header, Schedule};
use crate::script::launch::examine;
use crate::script::library::Library;
use crate::script::lint::Reserved;
use crate::script::parameters::Given;
use crate::sys::host::Host;
use crate::sys::{clock, fs, program};
use chrono_tz::Tz;
use std::path::Path;
use std::time::Duration;

/// Reads schedules and watches of the playbooks `only`, or of all of them. A playbook that does not lint is told as broken.
///
/// # Errors
/// `Usage` if a playbook of `only` is not there or has neither schedule nor watch, or the time zone of a schedule cannot be
/// told.
pub fn read(host: &Host, library: &Library, reserved: &Reserved, only: &[String]) -> Result<Orders, Failure> {
    let mut orders = Orders::default();
    let names = if only.is_empty() {
        library.list()?.into_iter().map(|entry| entry.name).collect()
    } else {
        only.to_vec()
    };
    if only.is_empty() {
        orders.all = Some(names.iter().cloned().collect());
    }
    for name in names {
        let playbook = library.find(&name)?;
        let checked = examine(library, &playbook, reserved);
        let error = checked.error().cloned();
        match (checked.header, error) {
            (Ok(header), None) => add(host, &name, &header, &mut orders)?,
            // What does not run by itself is not the daemon's business.
            (Ok(header), Some(_)) if header.schedule.is_empty() && header.watch.is_empty() => {}
            (_, Some(failure)) | (Err(failure), None) => orders.broken.push((name, failure)),
        }
    }
    Ok(orders)
}

fn add(host: &Host, name: &str, header: &Header, orders: &mut Orders) -> Result<(), Failure> {
    let names = header.schedule.iter().map(|schedule| schedule.name.clone());
    orders.schedules.insert(name.to_owned(), names.collect());
    for schedule in &header.schedule {
        orders.jobs.push(Job {
            playbook: name.to_owned(),
            timetable: schedule.timetable(zone(schedule)?)?,
            delay: delay(host.project(), name, schedule),
            schedule: schedule.clone(),
        });
    }
    let set = WatchSet::of_header(header, &Given::new(), &host.env(), host.project(), host.state())?;
    orders.watches.extend(set.map(|set| (name.to_owned(), set)));
    Ok(())
}

/// The time zone of a schedule: its own, or else the machine's.
///
/// # Errors
/// If the machine's cannot be told.
pub fn zone(schedule: &Schedule) -> Result<Tz, Failure> {
    match schedule.tz {
        Some(zone) => Ok(zone),
        None => clock::zone(program::variable("TZ").as_deref()),
    }
}

/// The delay that a schedule has on this machine by its jitter.
pub fn delay(project: &Path, playbook: &str, schedule: &Schedule) -> Duration {
    schedule.terms.delay(&format!("{} {} {playbook} {}", fs::host_name(), project.display(), schedule.name))
}
