//! How fast rotation decides what of 100,000 backups stays.

use chrono::{DateTime, TimeDelta};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lifeboat::base::backup::{Backup, Content, Source};
use lifeboat::base::plan::Later;
use lifeboat::base::retention::{Keep, plan};
use std::hint::black_box;

const BACKUPS: u32 = 100_000;
const NOW: &str = "2026-05-05T12:00:00+02:00";

fn backup(number: u32) -> Backup {
    let name = ["shop", "blog", "crm", "wiki"][number as usize % 4];
    Backup {
        path: format!("/backups/{name}_db_{number}.sql.gz").into(),
        name: format!("{name}_db_{number}.sql.gz"),
        content: Content::Sql,
        source: Source::Database { system: "7301234567890123456".into(), name: name.into() },
        selection: None,
        complete: true,
        tag: ["hourly", "daily", "weekly", "manual", "hourly"][number as usize % 5].into(),
        created: DateTime::parse_from_rfc3339(NOW).unwrap() - TimeDelta::minutes(5 * i64::from(number)),
        size: Later::Now(1_000_000),
        raw_size: Later::Now(9_000_000),
        sha256: Later::Now(None),
        verified: Later::Now((number % 10 != 3).then_some(number % 1000 != 7)),
    }
}

fn rotation(criterion: &mut Criterion) {
    let backups: Vec<Backup> = (0..BACKUPS).map(backup).collect();
    let now = DateTime::parse_from_rfc3339(NOW).unwrap();
    let days = Keep { keep_days: Some(30), ..Keep::default() };
    let calendar = Keep {
        keep_last: Some(10),
        keep_hourly: Some(48),
        keep_daily: Some(30),
        keep_weekly: Some(12),
        keep_monthly: Some(24),
        keep_yearly: Some(5),
        ..Keep::default()
    };
    let mut group = criterion.benchmark_group("rotation");
    group.sample_size(20).throughput(Throughput::Elements(u64::from(BACKUPS)));
    for (name, keep) in [("30 days", days), ("all calendar rules", calendar)] {
        group.bench_function(format!("{BACKUPS} backups, {name}"), |b| {
            b.iter(|| plan(black_box(&backups), &keep, now));
        });
    }
    group.finish();
}

criterion_group!(benches, rotation);
criterion_main!(benches);
