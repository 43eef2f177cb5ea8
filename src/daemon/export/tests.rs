use super::ofelia::Container;
use super::systemd::For;
use super::*;
use chrono::{DateTime, Utc};
use expect_test::expect;
use proptest::prelude::*;

const PLAYBOOK: &str = r#"const PLAYBOOK = #{
    summary: "Back up 100% of the \"shop\"",
    params: #{
        dir: #{ default_value: "/var/backups/shop", path: true },
        other: #{ default_value: "backups", path: true, env: "OTHER_DIR" },
        inside: #{ default_value: "reports", path: true },
    },
    schedule: [
        #{ name: "daily", cron: "30 2 * * *", tz: "Europe/Berlin", timeout: "1h", jitter: "5m" },
        #{ cron: "0 3 1,15 * 7", overlap: "queue", missed: "skip" },
        #{ name: "often", cron: "*/30 * * * * *", seconds: true, overlap: "kill", max_lateness: "30s" },
        #{ name: "last", cron: "0 2 L * *" },
    ],
};"#;

fn some() -> (Vec<Job>, Site) {
    let library = Library::of(Path::new("/srv/my shop"), &[("backup_shop", PLAYBOOK)], &[]);
    let env = Env::default().with(&[("OTHER_DIR", "/mnt/100% off-site".to_owned())]);
    let (jobs, broken) = super::jobs(&library, Path::new("/srv/my shop"), &env, Tz::UTC).unwrap();
    assert!(broken.is_empty(), "{broken:?}");
    let site = Site {
        program: "/opt/$x/lifeboat".to_owned(),
        project: "/srv/my shop".to_owned(),
        name: "my shop".to_owned(),
        names_project: false,
    };
    (jobs, site)
}

fn now() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2026-05-05T02:00:00Z").unwrap().with_timezone(&Utc)
}

fn told(export: &Export) -> String {
    let told = |failure: &Failure| format!("{}\n  {}\n", failure.message, failure.hints.join("\n  "));
    export.left_out.iter().chain(&export.notes).map(told).collect()
}

#[test]
fn a_crontab_has_lines_and_tells_what_it_cannot() {
    let (jobs, site) = some();
    let export = cron::export(&jobs, &site, Tz::UTC);
    expect![[r##"
        # Lifeboat: the schedules of /srv/my shop

        # Back up 100% of the "shop"
        0 3 1,15 * 0 cd '/srv/my shop' && mkdir -p logs && '/opt/$x/lifeboat' run --scheduled '0 3 1,15 * 7' backup_shop >> logs/cron-backup.log 2>&1

        # The lines below are in a time zone of their own; cronie knows CRON_TZ, Debian's cron ignores it.
        CRON_TZ=Europe/Berlin

        # Back up 100% of the "shop"
        30 2 * * * cd '/srv/my shop' && mkdir -p logs && '/opt/$x/lifeboat' run --scheduled daily backup_shop >> logs/cron-backup.log 2>&1
        @reboot cd '/srv/my shop' && mkdir -p logs && '/opt/$x/lifeboat' run --scheduled daily backup_shop >> logs/cron-backup.log 2>&1
    "##]].assert_eq(&export.text);
    expect![[r#"
        the schedule `often` of `backup_shop` is left out: its expression `*/30 * * * * *` has seconds
          A crontab cannot express that: write the expression otherwise, or let `lifeboat daemon` keep the schedules.
        the schedule `last` of `backup_shop` is left out: its expression `0 2 L * *` has `L`, `W` or `#`
          A crontab cannot express that: write the expression otherwise, or let `lifeboat daemon` keep the schedules.
        the schedule `daily` of `backup_shop` is in Europe/Berlin, and this machine is in UTC: not every cron knows `CRON_TZ`
          cronie keeps the hour. Debian's cron knocks at that hour of this machine, so that each run begins late, up to a day: use `lifeboat schedule install systemd` or `lifeboat daemon` there.
    "#]].assert_eq(&told(&export));
    // A zone that is the machine's own needs no line.
    let export = cron::export(&jobs[..1], &site, Tz::Europe__Berlin);
    assert!(!export.text.contains("CRON_TZ") && export.notes.is_empty(), "{}", export.text);
    let mut of_utc = jobs[0].clone();
    of_utc.tz = Some(Tz::UTC);
    assert_eq!(cron::export(&[of_utc], &site, Tz::Etc__UTC).notes, []);
}

#[test]
fn units_are_hardened_and_say_what_the_header_says() {
    let (jobs, site) = some();
    let export = systemd::export(&jobs[..2], &site, &For::System(Some("backup".to_owned())), now());
    expect![[r##"
        # /etc/systemd/system/lifeboat-my-shop-21d2-backup_shop-daily.service
        # Lifeboat: a unit of /srv/my shop; `lifeboat schedule install systemd` writes it
        [Unit]
        Description=Lifeboat: Back up 100%% of the "shop" (daily)
        Wants=network-online.target
        After=network-online.target postgresql.service docker.service

        [Service]
        Type=oneshot
        ExecStart=/opt/$x/lifeboat run --grace 60s --scheduled daily backup_shop
        # Warnings, and an instant that was left out for another run: both are on record and no failure.
        SuccessExitStatus=3 11
        TimeoutStartSec=4020
        KillMode=mixed
        TimeoutStopSec=90
        User=backup
        WorkingDirectory=/srv/my shop
        StandardOutput=append:/srv/my shop/logs/systemd-backup.log
        StandardError=append:/srv/my shop/logs/systemd-backup.log
        NoNewPrivileges=yes
        ProtectSystem=strict
        ProtectHome=read-only
        PrivateTmp=no
        PrivateDevices=yes
        ProtectClock=yes
        ProtectControlGroups=yes
        ProtectHostname=yes
        ProtectKernelLogs=yes
        ProtectKernelModules=yes
        ProtectKernelTunables=yes
        LockPersonality=yes
        RestrictRealtime=yes
        RestrictSUIDSGID=yes
        RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
        SystemCallArchitectures=native
        UMask=0077
        ReadWritePaths="/srv/my shop"
        ReadWritePaths=-/tmp
        ReadWritePaths=-/var/tmp
        ReadWritePaths="-/mnt/100%% off-site"
        ReadWritePaths=-/var/backups/shop

        # /etc/systemd/system/lifeboat-my-shop-21d2-backup_shop-daily.timer
        # Lifeboat: a unit of /srv/my shop; `lifeboat schedule install systemd` writes it
        [Unit]
        Description=Lifeboat: when to backup_shop (daily)

        [Timer]
        OnCalendar=*-*-* 02:30:00 Europe/Berlin
        # Instants that the lines above leave out where clocks change.
        OnCalendar=2026-03-29 01:00:00 UTC
        OnCalendar=2027-03-28 01:00:00 UTC
        OnCalendar=2028-03-26 01:00:00 UTC
        OnCalendar=2029-03-25 01:00:00 UTC
        OnCalendar=2030-03-31 01:00:00 UTC
        OnCalendar=2031-03-30 01:00:00 UTC
        OnCalendar=2032-03-28 01:00:00 UTC
        OnCalendar=2033-03-27 01:00:00 UTC
        OnCalendar=2034-03-26 01:00:00 UTC
        OnCalendar=2035-03-25 01:00:00 UTC
        Persistent=true
        AccuracySec=1s

        [Install]
        WantedBy=timers.target

        # /etc/systemd/system/lifeboat-my-shop-21d2-backup_shop-0-3-1-15-7-bcc6.service
        # Lifeboat: a unit of /srv/my shop; `lifeboat schedule install systemd` writes it
        [Unit]
        Description=Lifeboat: Back up 100%% of the "shop" (0 3 1,15 * 7)
        Wants=network-online.target
        After=network-online.target postgresql.service docker.service

        [Service]
        Type=oneshot
        ExecStart=/opt/$x/lifeboat run --grace 60s --scheduled "0 3 1,15 * 7" backup_shop
        # Warnings, and an instant that was left out for another run: both are on record and no failure.
        SuccessExitStatus=3 11
        TimeoutStartSec=infinity
        KillMode=mixed
        TimeoutStopSec=90
        User=backup
        WorkingDirectory=/srv/my shop
        StandardOutput=append:/srv/my shop/logs/systemd-backup.log
        StandardError=append:/srv/my shop/logs/systemd-backup.log
        NoNewPrivileges=yes
        ProtectSystem=strict
        ProtectHome=read-only
        PrivateTmp=no
        PrivateDevices=yes
        ProtectClock=yes
        ProtectControlGroups=yes
        ProtectHostname=yes
        ProtectKernelLogs=yes
        ProtectKernelModules=yes
        ProtectKernelTunables=yes
        LockPersonality=yes
        RestrictRealtime=yes
        RestrictSUIDSGID=yes
        RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
        SystemCallArchitectures=native
        UMask=0077
        ReadWritePaths="/srv/my shop"
        ReadWritePaths=-/tmp
        ReadWritePaths=-/var/tmp
        ReadWritePaths="-/mnt/100%% off-site"
        ReadWritePaths=-/var/backups/shop

        # /etc/systemd/system/lifeboat-my-shop-21d2-backup_shop-0-3-1-15-7-bcc6.timer
        # Lifeboat: a unit of /srv/my shop; `lifeboat schedule install systemd` writes it
        [Unit]
        Description=Lifeboat: when to backup_shop (0 3 1,15 * 7)

        [Timer]
        OnCalendar=*-*-01,15 03:00:00
        OnCalendar=Sun *-*-* 03:00:00
        Persistent=false
        AccuracySec=1s

        [Install]
        WantedBy=timers.target
    "##]]
    .assert_eq(&export.text);
    let export = systemd::export(&jobs, &site, &For::User, now());
    expect![[r#"
        the schedule `last` of `backup_shop` is left out: its expression `0 2 L * *` has `L`, `W` or `#`
          systemd cannot express that: write the expression otherwise, or let `lifeboat daemon` keep the schedules.
        the schedule `0 3 1,15 * 7` of `backup_shop` does not `skip` when its playbook still runs, and systemd starts no service that still runs
          What comes meanwhile is decided when the timer elapses next; `lifeboat daemon` keeps such a schedule to the word.
        the schedule `often` of `backup_shop` does not `skip` when its playbook still runs, and systemd starts no service that still runs
          What comes meanwhile is decided when the timer elapses next; `lifeboat daemon` keeps such a schedule to the word.
    "#]].assert_eq(&told(&export));
    let service = &export.pieces[0].text;
    assert!(!service.contains("User=") && !service.contains("ReadWritePaths"), "{service}");
}

#[test]
fn the_daemon_is_one_service() {
    let (jobs, site) = some();
    expect![[r##"
        # /etc/systemd/system/lifeboat-my-shop-21d2.service
        # Lifeboat: a unit of /srv/my shop; `lifeboat schedule install systemd` writes it
        [Unit]
        Description=Lifeboat for /srv/my shop
        Wants=network-online.target
        After=network-online.target postgresql.service docker.service

        [Service]
        Type=notify
        NotifyAccess=main
        WatchdogSec=120
        Restart=on-failure
        RestartSec=10
        ExecStart=/opt/$x/lifeboat daemon
        ExecReload=/bin/kill -HUP $MAINPID
        KillMode=mixed
        TimeoutStopSec=300
        User=root
        WorkingDirectory=/srv/my shop
        StandardOutput=append:/srv/my shop/logs/systemd-backup.log
        StandardError=append:/srv/my shop/logs/systemd-backup.log
        NoNewPrivileges=yes
        ProtectSystem=strict
        ProtectHome=read-only
        PrivateTmp=no
        PrivateDevices=yes
        ProtectClock=yes
        ProtectControlGroups=yes
        ProtectHostname=yes
        ProtectKernelLogs=yes
        ProtectKernelModules=yes
        ProtectKernelTunables=yes
        LockPersonality=yes
        RestrictRealtime=yes
        RestrictSUIDSGID=yes
        RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
        SystemCallArchitectures=native
        UMask=0077
        ReadWritePaths="/srv/my shop"
        ReadWritePaths=-/tmp
        ReadWritePaths=-/var/tmp
        ReadWritePaths="-/mnt/100%% off-site"
        ReadWritePaths=-/var/backups/shop

        [Install]
        WantedBy=multi-user.target
    "##]]
    .assert_eq(&systemd::daemon(&jobs, &site, &For::System(None)).text);
}

#[test]
fn ofelia_gets_labels_with_seconds() {
    let (jobs, site) = some();
    let container = Container { image: "shop:1".to_owned(), dir: "/pro$ject".to_owned() };
    let export = ofelia::export(&jobs, &site, &container);
    expect![[r##"
        # Lifeboat: the schedules of /srv/my shop for ofelia
        # docker-compose -f docker-compose.yml -f THIS_FILE up -d
        # What ofelia misses while it is down is made up for when the schedule comes next.
        services:
          scheduler:
            image: mcuadros/ofelia:latest
            command: daemon --docker
            depends_on:
              - lifeboat
            volumes:
              - /var/run/docker.sock:/var/run/docker.sock:ro
          lifeboat:
            image: "shop:1"
            entrypoint: ["sleep", "infinity"]
            init: true
            working_dir: "/pro$$ject"
            volumes:
              - "/srv/my shop:/pro$$ject"
            labels:
              ofelia.enabled: "true"
              ofelia.job-exec.backup_shop-daily.schedule: "CRON_TZ=Europe/Berlin 0 30 2 * * *"
              ofelia.job-exec.backup_shop-daily.command: "lifeboat --project \"/pro$$ject\" run --scheduled daily backup_shop"
              ofelia.job-exec.backup_shop-0-3-1-15-7-edc9.schedule: "0 0 3 1,15 * 0"
              ofelia.job-exec.backup_shop-0-3-1-15-7-edc9.command: "lifeboat --project \"/pro$$ject\" run --scheduled \"0 3 1,15 * 7\" backup_shop"
              ofelia.job-exec.backup_shop-often.schedule: "0,30 * * * * *"
              ofelia.job-exec.backup_shop-often.command: "lifeboat --project \"/pro$$ject\" run --scheduled often backup_shop"
    "##]].assert_eq(&export.text);
    expect![[r#"
        the schedule `last` of `backup_shop` is left out: its expression `0 2 L * *` has `L`, `W` or `#`
          ofelia cannot express that: write the expression otherwise, or let `lifeboat daemon` keep the schedules.
    "#]].assert_eq(&told(&export));
}

#[test]
fn kubernetes_gets_a_cron_job_each() {
    let (jobs, site) = some();
    let container = Container { image: "shop:1".to_owned(), dir: "/project".to_owned() };
    let export = kubernetes::export(&jobs, &site, &container, "shop");
    expect![[r#"
        ---
        apiVersion: batch/v1
        kind: CronJob
        metadata:
          name: "lifeboat-my-shop-backup-shop-daily-5656"
          labels:
            app.kubernetes.io/name: lifeboat
          annotations:
            description: "Back up 100% of the \"shop\""
        spec:
          schedule: "30 2 * * *"
          timeZone: "Europe/Berlin"
          concurrencyPolicy: Forbid
          startingDeadlineSeconds: 86400
          successfulJobsHistoryLimit: 3
          failedJobsHistoryLimit: 3
          jobTemplate:
            spec:
              backoffLimit: 0
              activeDeadlineSeconds: 4020
              template:
                spec:
                  restartPolicy: Never
                  terminationGracePeriodSeconds: 90
                  containers:
                    - name: lifeboat
                      image: "shop:1"
                      command: ["lifeboat"]
                      args: ["--project", "/project", "run", "--grace", "60s", "--scheduled", "daily", "backup_shop"]
                      workingDir: "/project"
                      env:
                        - name: TZ
                          value: "Europe/Berlin"
                      volumeMounts:
                        - name: project
                          mountPath: "/project"
                  volumes:
                    - name: project
                      persistentVolumeClaim:
                        claimName: "shop"
        ---
        apiVersion: batch/v1
        kind: CronJob
        metadata:
          name: "lifeboat-my-shop-backup-shop-0-3-1-15-7-b532"
          labels:
            app.kubernetes.io/name: lifeboat
          annotations:
            description: "Back up 100% of the \"shop\""
        spec:
          schedule: "0 3 1,15 * 0"
          timeZone: "UTC"
          concurrencyPolicy: Allow
          startingDeadlineSeconds: 60
          successfulJobsHistoryLimit: 3
          failedJobsHistoryLimit: 3
          jobTemplate:
            spec:
              backoffLimit: 0
              template:
                spec:
                  restartPolicy: Never
                  terminationGracePeriodSeconds: 90
                  containers:
                    - name: lifeboat
                      image: "shop:1"
                      command: ["lifeboat"]
                      args: ["--project", "/project", "run", "--grace", "60s", "--scheduled", "0 3 1,15 * 7", "backup_shop"]
                      workingDir: "/project"
                      env:
                        - name: TZ
                          value: "UTC"
                      volumeMounts:
                        - name: project
                          mountPath: "/project"
                  volumes:
                    - name: project
                      persistentVolumeClaim:
                        claimName: "shop"
    "#]].assert_eq(&export.text);
    expect![[r#"
        the schedule `often` of `backup_shop` is left out: its expression `*/30 * * * * *` has seconds
          Kubernetes cannot express that: write the expression otherwise, or let `lifeboat daemon` keep the schedules.
        the schedule `last` of `backup_shop` is left out: its expression `0 2 L * *` has `L`, `W` or `#`
          Kubernetes cannot express that: write the expression otherwise, or let `lifeboat daemon` keep the schedules.
        the schedule `0 3 1,15 * 7` of `backup_shop` queues, and Kubernetes lets no job wait for another
          The CronJob has `concurrencyPolicy: Allow`: its pod waits itself, which needs a volume that several pods may use.
    "#]].assert_eq(&told(&export));
    let mut long = jobs[1].clone();
    long.playbook = "x".repeat(60);
    let name = kubernetes::export(&[long], &site, &container, "shop").pieces[0].name.clone().unwrap();
    assert!(name.len() <= 52 && !name.contains("--"), "{name}");
}

#[test]
fn names_stay_apart() {
    assert_eq!(slug("backup_all", "_"), "backup_all");
    assert_ne!(slug("0 2 1 * *", "_"), slug("0-2 1 * *", "_"));
    assert!(slug("0 2 * * *", "_").starts_with("0-2-"));
}

#[test]
fn a_block_that_has_no_end_is_refused() {
    let refused = cron::with_block("# BEGIN Lifeboat /p\nx\n", "/p", None).unwrap_err();
    assert_eq!(refused.message, "the crontab has a line `# BEGIN Lifeboat /p` and no `# END Lifeboat /p`");
    assert_eq!(refused.hints, ["Remove what is left of the block by `crontab -e`, and try again."]);
}

proptest! {
    #[test]
    fn other_lines_stay_to_the_byte(before in "([a-z #*]{0,9}\n){0,3}", after in "([a-z #*]{0,9}\n){0,3}[a-z]{0,3}") {
        let with = |text: &str, block| cron::with_block(text, "/p", block).unwrap();
        let one = format!("{}{after}", with(&before, Some("1")));
        prop_assert_eq!(&one, &format!("{before}# BEGIN Lifeboat /p\n1\n# END Lifeboat /p\n{after}"));
        prop_assert_eq!(with(&one, Some("1")), one.clone());
        let two = with(&one, Some("2\n3\n"));
        prop_assert_eq!(&two, &format!("{before}# BEGIN Lifeboat /p\n2\n3\n# END Lifeboat /p\n{after}"));
        let other = cron::with_block(&two, "/p2", Some("x")).unwrap();
        let without = cron::with_block(&other, "/p2", None).unwrap();
        prop_assert_eq!(without.trim_end(), two.trim_end());
        prop_assert_eq!(with(&two, None), format!("{before}{after}"));
    }
}
