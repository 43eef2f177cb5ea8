//! 3-2-1, counted honestly: how many copies outlive the loss of one disk, on how many types of storage, how many off-site.
//!
//! Two backups on one disk are one copy, and so are production and a backup that lie on the same disk. File systems whose
//! disks nobody can tell, such as the layers of a container, are taken for one, and for one with a local disk. Memory is no
//! copy. What is declared to be off-site counts as such unless it is known to lie on a disk of this place.

use crate::base::health::{Live, Terms};
use serde::Serialize;
use std::collections::BTreeSet;

/// What a file system lies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disk {
    /// Disks of this machine, by their names in `/sys/block`.
    Local {
        /// Their names.
        names: BTreeSet<String>,
        /// Whether they can be taken out, as far as the kernel knows.
        is_removable: bool,
    },
    /// A share of another machine, by its name.
    Network(String),
    /// Memory.
    Memory,
    /// Nobody can tell.
    Unknown,
}

/// Where a file lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of the file system's device.
    pub device: u64,
    /// Type of the file system; empty if it cannot be told.
    pub kind: String,
    /// What it lies on.
    pub disk: Disk,
}

impl Place {
    /// It for people: `disk sda`, `share of nas`, `memory`.
    pub fn told(&self) -> String {
        match &self.disk {
            Disk::Local { names, is_removable } => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let what = if *is_removable { "removable disk" } else { "disk" };
                format!("{what} {}", names.join("+"))
            }
            Disk::Network(machine) => format!("share of {machine}"),
            Disk::Memory => "memory".to_owned(),
            Disk::Unknown if self.kind.is_empty() => "an unknown disk".to_owned(),
            Disk::Unknown => format!("an unknown disk ({})", self.kind),
        }
    }

    /// The type of storage.
    fn storage(&self) -> &'static str {
        match &self.disk {
            Disk::Local { is_removable: true, .. } => "removable disk",
            Disk::Local { .. } | Disk::Unknown => "local disk",
            Disk::Network(_) => "network share",
            Disk::Memory => "memory",
        }
    }

    /// Whether the loss of one may be the loss of the other.
    fn may_share_fate(&self, other: &Self) -> bool {
        if self.device == other.device {
            return true;
        }
        match (&self.disk, &other.disk) {
            (Disk::Local { names: a, .. }, Disk::Local { names: b, .. }) => !a.is_disjoint(b),
            (Disk::Network(a), Disk::Network(b)) => a == b,
            (Disk::Unknown, Disk::Unknown | Disk::Local { .. }) | (Disk::Local { .. }, Disk::Unknown) => true,
            _ => false,
        }
    }

    /// Whether it is known that both lie on one disk or machine.
    fn shares_fate(&self, other: &Self) -> bool {
        self.device == other.device
            || (self.disk != Disk::Unknown && other.disk != Disk::Unknown && self.may_share_fate(other))
    }
}

/// A folder that holds a recent backup of a source, not known to be damaged.
#[derive(Clone, Debug)]
pub struct Holder<'a> {
    /// The folder, as people see it.
    pub folder: &'a str,
    /// Where it lies.
    pub place: &'a Place,
    /// Whether it was declared to be off-site.
    pub is_offsite: bool,
}

/// One copy: what lies on one disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopyPlace {
    /// The disk, share or host.
    pub place: String,
    /// What lies there: `production`, and folders.
    pub holds: Vec<String>,
    /// Whether it is off-site.
    pub offsite: bool,
}

/// The copies of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Copies {
    /// How many outlive the loss of any one disk but their own; production is one of them, where its place is known.
    pub copies: u32,
    /// Types of storage of the backups and of production: `local disk`, `removable disk`, `network share`.
    pub storage: Vec<&'static str>,
    /// How many are off-site.
    pub offsite: u32,
    /// Each of them.
    pub places: Vec<CopyPlace>,
    /// What was not counted, and why.
    pub notes: Vec<String>,
}

struct Group<'a> {
    places: Vec<&'a Place>,
    told: BTreeSet<String>,
    holds: Vec<String>,
    offsite: bool,
    is_declared: bool,
}

/// Counts the copies of one source.
pub fn count(live: Option<&Live>, holders: &[Holder<'_>]) -> Copies {
    let mut notes = Vec::new();
    let (memory, lasting): (Vec<&Holder>, Vec<&Holder>) =
        holders.iter().partition(|holder| holder.place.disk == Disk::Memory);
    notes.extend(memory.iter().map(|holder| format!("{} lies in memory, which is no copy", holder.folder)));
    let (declared, near): (Vec<&Holder>, Vec<&Holder>) =
        lasting.into_iter().partition(|holder| holder.is_offsite);
    let mut groups: Vec<Group> = Vec::new();
    let mut elsewhere = None;
    match live {
        Some(Live::At(place)) if place.disk != Disk::Memory => add(&mut groups, place, "production"),
        Some(Live::At(_)) => notes.push("production lies in memory, which is no copy".to_owned()),
        Some(Live::Elsewhere(host)) => elsewhere = Some(host),
        None => notes.push("where production lies is not known, so that it is not counted".to_owned()),
    }
    near.iter().for_each(|holder| add(&mut groups, holder.place, holder.folder));
    for holder in declared {
        match groups.iter_mut().find(|group| group.places.iter().any(|place| place.shares_fate(holder.place)))
        {
            Some(group) if !group.is_declared => {
                notes.push(format!(
                    "{} was declared off-site and is not counted so: it lies on {}, with {}",
                    holder.folder,
                    holder.place.told(),
                    group.holds.join(", ")
                ));
                group.holds.push(holder.folder.to_owned());
            }
            Some(group) => group.holds.push(holder.folder.to_owned()),
            None => groups.push(Group {
                places: vec![holder.place],
                told: [holder.place.told()].into(),
                holds: vec![holder.folder.to_owned()],
                offsite: true,
                is_declared: true,
            }),
        }
    }
    let storage: BTreeSet<&str> =
        groups.iter().flat_map(|group| &group.places).map(|place| place.storage()).collect();
    let mut places: Vec<CopyPlace> = groups
        .into_iter()
        .map(|group| CopyPlace {
            place: group.told.into_iter().collect::<Vec<_>>().join(", "),
            holds: group.holds,
            offsite: group.offsite,
        })
        .collect();
    if let Some(host) = elsewhere {
        let production = vec!["production".to_owned()];
        places.insert(0, CopyPlace { place: format!("host {host}"), holds: production, offsite: false });
    }
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Copies {
        copies: number(places.len()),
        storage: storage.into_iter().collect(),
        offsite: number(places.iter().filter(|place| place.offsite).count()),
        places,
        notes,
    }
}

/// Adds something to the group of its disk; groups that it joins become one.
fn add<'a>(groups: &mut Vec<Group<'a>>, place: &'a Place, what: &str) {
    let (joined, others): (Vec<Group>, Vec<Group>) = std::mem::take(groups)
        .into_iter()
        .partition(|group| group.places.iter().any(|other| other.may_share_fate(place)));
    *groups = others;
    let mut group = Group {
        places: vec![place],
        told: [place.told()].into(),
        holds: Vec::new(),
        offsite: false,
        is_declared: false,
    };
    for other in joined {
        group.places.extend(other.places);
        group.told.extend(other.told);
        group.holds.extend(other.holds);
    }
    if !group.holds.iter().any(|held| held == what) {
        group.holds.push(what.to_owned());
    }
    groups.push(group);
}

impl Copies {
    /// What is missing of what the terms ask for; `None` if nothing is.
    pub fn missing(&self, terms: &Terms) -> Option<String> {
        let storage = u32::try_from(self.storage.len()).unwrap_or(u32::MAX);
        let counts = [
            (self.copies, terms.copies, "copies"),
            (storage, terms.storage, "types of storage"),
            (self.offsite, terms.offsite, "copies off-site"),
        ];
        let missing: Vec<String> = counts
            .iter()
            .filter(|(there, wanted, _)| there < wanted)
            .map(|(there, wanted, what)| format!("{there} of {wanted} {what}"))
            .collect();
        (!missing.is_empty()).then(|| missing.join(", "))
    }

    /// Where the copies are, for people: `disk sda: production, backups/database; share of nas: /mnt/nas (off-site)`.
    pub fn told(&self) -> String {
        let mut parts: Vec<String> = self
            .places
            .iter()
            .map(|place| {
                let offsite = if place.offsite { " (off-site)" } else { "" };
                format!("{}: {}{offsite}", place.place, place.holds.join(", "))
            })
            .collect();
        parts.extend(self.notes.iter().cloned());
        parts.join("; ")
    }
}

/// The machine that a share's source names, as mounts write it: `nas:/export`, `//nas/share`, `me@nas:/srv`.
pub fn machine_of(source: &str) -> String {
    let rest = source.strip_prefix("//").or_else(|| source.split_once("://").map(|(_, rest)| rest));
    let machine = match rest {
        Some(rest) => rest.split(['/', ':']).next().unwrap_or(rest),
        None => match source.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => source.split(':').next().unwrap_or(source),
        },
    };
    let machine = machine.rsplit('@').next().unwrap_or(machine);
    if machine.is_empty() { source.to_owned() } else { machine.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn local(device: u64, name: &str) -> Place {
        let disk = Disk::Local { names: [name.to_owned()].into(), is_removable: false };
        Place { device, kind: "ext4".to_owned(), disk }
    }

    fn share(device: u64, machine: &str) -> Place {
        Place { device, kind: "nfs4".to_owned(), disk: Disk::Network(machine.to_owned()) }
    }

    fn unknown(device: u64) -> Place {
        Place { device, kind: "overlay".to_owned(), disk: Disk::Unknown }
    }

    fn holder<'a>(folder: &'a str, place: &'a Place, is_offsite: bool) -> Holder<'a> {
        Holder { folder, place, is_offsite }
    }

    fn told(live: Option<&Live>, holders: &[Holder<'_>]) -> String {
        let copies = count(live, holders);
        let missing = copies.missing(&Terms::default()).unwrap_or_else(|| "nothing missing".to_owned());
        format!("{missing}\n{}\n", copies.told())
    }

    #[test]
    fn three_two_one_is_reached_by_a_share_and_another_host() {
        let (disk, nas, far) = (local(1, "sda"), share(2, "nas"), share(3, "far.example"));
        let live = Live::Elsewhere("db1:5432".to_owned());
        expect![[r#"
            nothing missing
            host db1:5432: production; disk sda: backups/database; share of far.example: /mnt/far (off-site)
        "#]]
        .assert_eq(&told(
            Some(&live),
            &[holder("backups/database", &disk, false), holder("/mnt/far", &far, true)],
        ));
        expect![[r#"
            0 of 1 copies off-site
            disk sda: production, backups/database; share of nas: /mnt/nas; share of far.example: /mnt/far
        "#]]
        .assert_eq(&told(
            Some(&Live::At(disk.clone())),
            &[
                holder("backups/database", &disk, false),
                holder("/mnt/nas", &nas, false),
                holder("/mnt/far", &far, false),
            ],
        ));
    }

    #[test]
    fn partitions_and_unknown_disks_are_one_with_what_they_may_lie_on() {
        let (a, b, layer) = (local(1, "sda"), local(2, "sda"), unknown(3));
        expect![[r#"
            1 of 3 copies, 1 of 2 types of storage, 0 of 1 copies off-site
            an unknown disk (overlay), disk sda: a, b, c; where production lies is not known, so that it is not counted
        "#]]
        .assert_eq(&told(
            None,
            &[holder("a", &a, false), holder("b", &b, false), holder("c", &layer, false)],
        ));
    }

    #[test]
    fn memory_is_no_copy_and_a_declaration_is_not_believed_against_what_is_known() {
        let memory = Place { device: 9, kind: "tmpfs".to_owned(), disk: Disk::Memory };
        let (disk, other) = (local(1, "sda"), local(2, "sda"));
        expect![[r#"
            1 of 3 copies, 1 of 2 types of storage, 0 of 1 copies off-site
            disk sda: production, backups, /remote; /dev/shm/b lies in memory, which is no copy; /remote was declared off-site and is not counted so: it lies on disk sda, with production, backups
        "#]]
        .assert_eq(&told(
            Some(&Live::At(disk.clone())),
            &[holder("backups", &disk, false), holder("/dev/shm/b", &memory, false), holder("/remote", &other, true)],
        ));
    }

    #[test]
    fn what_nobody_can_tell_is_off_site_if_it_is_declared_to_be() {
        let (disk, mounted) = (local(1, "sda"), unknown(7));
        let copies = count(None, &[holder("backups", &disk, false), holder("/remote", &mounted, true)]);
        assert_eq!((copies.copies, copies.offsite), (2, 1));
        // Two declared folders on one share are one copy.
        let far = share(3, "far");
        let copies = count(None, &[holder("/far/a", &far, true), holder("/far/b", &far, true)]);
        assert_eq!((copies.copies, copies.offsite), (1, 1));
    }

    #[test]
    fn the_machine_of_a_share_is_told_by_its_source() {
        for (source, machine) in [
            ("nas:/export/a", "nas"),
            ("//box.lan/share", "box.lan"),
            ("me@far.example:/srv", "far.example"),
            ("[fd00::1]:/export", "fd00::1"),
            ("https://dav.example/x", "dav.example"),
            ("bucket", "bucket"),
        ] {
            assert_eq!(machine_of(source), machine);
        }
    }
}
