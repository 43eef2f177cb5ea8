#!/usr/bin/env bash
# Lifeboat against its peers, in one run on one machine: a Markdown table of medians, ratios and sizes.
#
#   benches/peers.sh [SCALE] [ROUNDS]      scale of the sample database (1 is 58 MB of dump, default 10), rounds (3)
#
# In each round both sides of a pair run one after the other, and rounds rotate who begins: a machine's speed drifts, a
# ratio within a round does not. The table goes to stdout and to target/peers.md; goals stand beside what was measured,
# and nothing is asserted. Peers are installed from Debian. A scratch PostgreSQL is started and removed.
#
#   LIFEBOAT=FILE    the program to measure, instead of a release build of this tree
#   LISTS=COUNT      backups and runs to list (100000); 0 leaves that out, which needs a build in any case
# shellcheck disable=SC2317 # the sides of a pair are called by their names
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LC_ALL=C
scale=${1:-10}
rounds=${2:-3}
lists=${LISTS:-100000}

# shellcheck source=.ci/setup.sh
source .ci/setup.sh
for number in "$scale" "$rounds"; do
    [[ $number =~ ^[1-9][0-9]*$ ]] || die "\`$number\` is no scale or number of rounds" "Run it as \`benches/peers.sh [SCALE] [ROUNDS]\`."
done
[[ $(uname -s) == Linux ]] || die "the comparison runs on Linux only: it reads /proc and runs peers from Debian"
if [[ $EUID -eq 0 ]] && ! id postgres >/dev/null 2>&1; then
    die "PostgreSQL does not run as root, and there is no user \`postgres\`" "Run the script as an ordinary user."
fi
needed=$((6000 + scale * 600))
free=$(df -Pm /var/tmp | awk 'NR == 2 { print $4 }')
((free >= needed)) || die "/var/tmp has $free MB free, and scale $scale needs about $needed" "Choose a smaller scale."
ensure_peers

lifeboat=${LIFEBOAT:-}
if [[ -z $lifeboat ]]; then
    cargo build --release --locked --quiet
    lifeboat=$PWD/target/release/lifeboat
fi
[[ -x $lifeboat ]] || die "\`$lifeboat\`, which LIFEBOAT names, is no program"
bin=${LIFEBOAT_PG_BINDIR:-$(find /usr/lib/postgresql -name postgres -path '*bin*' 2>/dev/null | sort -V | tail -1 | xargs -r dirname)}
bin=${bin:-$(dirname "$(command -v postgres)")}

# On a disk, since folders for temporary files may be memory.
work=$(mktemp -d /var/tmp/lifeboat-peers.XXXXXX)
as_server() {
    if [[ $EUID -eq 0 ]]; then setpriv --reuid=postgres --regid=postgres --init-groups "$@"; else "$@"; fi
}
server() { as_server "$bin/pg_ctl" -D "$work/data" -w -l "$work/data/log" -o "-k $work/socket" "$@" >/dev/null; }
clean_up() {
    touch "$work/stop"
    server -m immediate stop 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
chmod 711 "$work"
mkdir "$work/data" "$work/socket" "$work/archived" "$work/project" "$work/times"
if [[ $EUID -eq 0 ]]; then chown postgres: "$work/data" "$work/socket" "$work/archived"; fi
as_server "$bin/initdb" -D "$work/data" -U postgres -A trust --no-sync -E UTF8 --locale=C >/dev/null
printf '%s\n' "listen_addresses = ''" "shared_buffers = 256MB" >>"$work/data/postgresql.conf"
server start
export PGHOST=$work/socket PGUSER=postgres PGDATABASE=bench
unset PGPORT PGPASSWORD PGSERVICE DATABASE_URL
psql() { "$bin/psql" -X -q "$@"; }

# What peers need to keep to the scratch folder.
export RESTIC_PASSWORD=bench BORG_BASE_DIR=$work/borg BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes
repo=$work/theirs/repo

say "loading the sample database at scale $scale"
"$bin/createdb" bench
psql -v scale="$scale" -f stdlib/sample.sql
say "making a tree of files"
# Files of 0.2 to 29 KB, a hundred in a folder, and a few large ones; each is another piece of this project's own text,
# and neighbours share none of it: who reads them in order must not compress better for that.
tree=$work/tree
files=$((scale < 10 ? scale * 6500 : 65000))
find src stdlib playbooks tests -type f -exec cat {} + | tr -d '\001' >"$work/text"
for folder in $(seq 0 $((files / 100))); do echo "$tree/$folder"; done | xargs mkdir -p
awk -v RS='\001' -v tree="$tree" -v files="$files" '{
    for (file = 0; file < files; file++) {
        name = tree "/" int(file / 100) "/" file ".txt"
        begin = int(file * 0.6180339887 % 1 * (length($0) - 30000)) + 1
        printf "%s", substr($0, begin, 200 + file * 7919 % 29000) > name
        close(name)
    }
}' "$work/text"
for file in 1 2 3 4; do
    for piece in 1 2 3 4; do tail -c "+$((file * piece * 997))" "$work/text"; done >"$tree/large$file.txt"
done
files=$(find "$tree" -type f | wc -l)

mkdir -p target
: >target/peers.md
tell() { printf '%s\n' "$@" | tee -a target/peers.md; }
median() { sort -n | awk '{ a[NR] = $1 } END { printf "%.3g", NR % 2 ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2 }'; }
versions() {
    pigz --version 2>&1 | head -1
    restic version 2>/dev/null | cut -d' ' -f1-2
    borg --version 2>/dev/null
    pgbackrest version 2>/dev/null
    gzip --version | head -1
    tar --version | head -1
}
row() {
    local cells
    cells=$(printf ' %s |' "$@")
    tell "|$cells"
}

nothing() { :; }
fresh_backups() { rm -rf "$work/theirs" "$work/project/backups" && mkdir "$work/theirs"; }
fresh_target() {
    psql -A -t -d postgres -c "SELECT format('DROP DATABASE %I WITH (FORCE);', datname) FROM pg_database WHERE datname LIKE 'restored%'" |
        psql -d postgres
    "$bin/createdb" restored
    psql -d postgres -c CHECKPOINT
}
fresh_folder() { rm -rf "$work/out.d" && mkdir "$work/out.d"; }
prepare=nothing
failed=0

# Runs one side after what must be done before it, and notes how long it took and what it wrote.
timed() {
    local times=$work/times/$1 began
    shift
    "$prepare"
    if declare -F "$1_prepare" >/dev/null; then "$1_prepare" >"$work/out" 2>&1; fi
    sync
    began=$EPOCHREALTIME
    if "$@" >"$work/out" 2>&1; then
        awk -v began="$began" -v ended="$EPOCHREALTIME" 'BEGIN { printf "%.3f\n", ended - began }' >>"$times"
    else
        say "warning: \`$*\` failed:" "$(cat "$work/out")"
        echo failed >>"$times"
        failed=1
    fi
    if [[ $prepare == fresh_backups ]]; then
        if [[ $1 == ours_* ]]; then
            find "$work/project/backups" -name '*.gz' -printf '%s\n'
        else
            find "$work/theirs" "$work/archived" -type f -printf '%s\n'
        fi | awk '{ n += $1 } END { if (n) printf "%.1f\n", n / 1e6 }' >"$times.size"
    fi
}
# The median of a side, or why there is none.
side() {
    if [[ ! -e $work/times/$1 ]]; then
        echo "not installed"
    elif grep -q failed "$work/times/$1"; then
        echo failed
    else
        median <"$work/times/$1"
    fi
}
size() { cat "$work/times/$1.size" 2>/dev/null || true; }
ratio() {
    [[ -e $work/times/0 ]] || return 0
    paste "$work/times/0" "$work/times/$1" | awk '/failed/ { next } { print $2 / $1 }' >"$work/ratios"
    if [[ -s $work/ratios ]]; then median <"$work/ratios"; fi
}
# contest AGAINST PROGRAM THEIRS [WORK OURS GOAL]...     the peer, the program that it needs, and what of ours it meets
contest() {
    local against=$1 program=$2 theirs=$3 works=() ours=() goals=() round turn which words
    shift 3
    while (($#)); do
        works+=("$1")
        ours+=("$2")
        goals+=("$3")
        shift 3
    done
    say "against $against"
    rm -rf "$work/times" && mkdir "$work/times"
    for ((round = 0; round < rounds; round++)); do
        for ((turn = 0; turn <= ${#ours[@]}; turn++)); do
            which=$(((round + turn) % (${#ours[@]} + 1)))
            if ((which > 0)); then
                read -ra words <<<"${ours[which - 1]}"
                timed "$which" "${words[@]}"
            elif command -v "$program" >/dev/null || [[ -x $bin/$program ]]; then
                timed 0 "$theirs"
            fi
        done
    done
    for ((which = 1; which <= ${#ours[@]}; which++)); do
        row "${works[which - 1]}" "$against" "$(side 0)" "$(side "$which")" "$(ratio "$which")" "${goals[which - 1]}" \
            "$(size 0)" "$(size "$which")"
    done
}

# The sides. Each is one chain, since a failure inside of what is being judged would not end it.
checked() { sha256sum "$1" >"$1.sha256" && gzip -t "$1"; }
guide_database() { "$bin/pg_dump" | gzip >"$work/theirs/db.sql.gz" && checked "$work/theirs/db.sql.gz"; }
pigz_database() { "$bin/pg_dump" | pigz >"$work/theirs/db.sql.gz" && checked "$work/theirs/db.sql.gz"; }
directory_database() { "$bin/pg_dump" -Fd -j2 -Z6 -f "$work/theirs/dir"; }
discarded_database() { "$bin/pg_dump" >/dev/null; }
restic_database_prepare() { restic -q -r "$repo" init; }
restic_database() { "$bin/pg_dump" | restic -q --no-cache -r "$repo" backup --stdin --stdin-filename db.sql; }
# Without encryption, as ours; restic cannot do without.
borg_database_prepare() { rm -rf "$work/borg" && borg init -e none "$repo"; }
borg_database() { "$bin/pg_dump" | borg create "$repo::db" -; }
backrest() { as_server pgbackrest --config="$work/pgbackrest.conf" --stanza=bench "$@"; }
backrest_database() { backrest --type=full backup; }
ours_database() { "$lifeboat" --project "$work/project" --quiet backup_database --level "$1"; }
# What peers do not do either is left out: the file is written, hashed and synced, and not read again.
ours_unverified() { "$lifeboat" --project "$work/project" --quiet unverified --level "$1"; }
guide_verify() { sha256sum -c --quiet "$work/theirs/db.sql.gz.sha256" && gzip -t "$work/theirs/db.sql.gz"; }
ours_verify() { "$lifeboat" --project "$work/project" --quiet verify_backups "$work/project/backups/database"; }
guide_restore() { gunzip -c "$work/db.sql.gz" | psql -o /dev/null -v ON_ERROR_STOP=1 -d restored; }
directory_restore() { "$bin/pg_restore" -j2 -d restored "$work/db.dir"; }
# Into a database of another name: exit code 3, since that is warned of.
ours_restore() {
    PGDATABASE=restored "$lifeboat" --project "$work/project" --quiet restore --yes --database "$@" || [[ $? == 3 ]]
}
guide_tree() { tar czf "$work/theirs/tree.tar.gz" -C "$tree" . && sha256sum "$work/theirs/tree.tar.gz"; }
pigz_tree() { tar cf - -C "$tree" . | pigz >"$work/theirs/tree.tar.gz" && sha256sum "$work/theirs/tree.tar.gz"; }
restic_tree_prepare() { restic_database_prepare; }
restic_tree() { restic -q --no-cache -r "$repo" backup "$tree"; }
borg_tree_prepare() { borg_database_prepare; }
borg_tree() { borg create "$repo::tree" "$tree"; }
ours_tree() { "$lifeboat" --project "$work/project" --quiet backup_config --root "$tree" --include '**' --level "$1"; }
guide_extract() { tar xzf "$work/tree.tar.gz" -C "$work/out.d" && sync -f "$work/out.d"; }
ours_extract() { "$lifeboat" --project "$work/project" --quiet restore --yes --config "$our_tree" --target "$work/out.d"; }

dump_bytes=$("$bin/pg_dump" | wc -c)
tell "Measured on $(date -u +%Y-%m-%d) with \`benches/peers.sh $scale $rounds\`: medians of $rounds rounds, ratios paired within a round." ""
tell "- Machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores," \
    "  $(awk '/MemTotal/ { printf "%.0f", $2 / 1048576 }' /proc/meminfo) GiB, Linux $(uname -r), $(df --output=fstype "$work" | tail -1)" \
    "- Server: $("$bin/postgres" --version), its defaults (fsync and synchronous_commit on) but for shared_buffers = 256MB, the" \
    "  same for both sides; on the same machine, over a Unix socket" \
    "- Data: \`sample.sql\` at scale $scale, $dump_bytes bytes of dump; a tree of $files files, $(du -sbm "$tree" | cut -f1) MB" \
    "- Peers: $(versions | paste -sd, | sed 's/,/, /g')" \
    "- Ours are whole runs: a backup is synced, has its SHA-256, and is verified from its first byte to its last; a restore is" \
    "  verified, loaded into a staging database, compared row by row, analyzed and swapped in. Peers do what is named." ""
tell "| work | against | theirs, s | ours, s | ours / theirs | goal | theirs, MB | ours, MB |" "|---|---|---|---|---|---|---|---|"

mkdir -p "$work/project/playbooks"
cat >"$work/project/playbooks/unverified.rhai" <<'END'
const PLAYBOOK = #{
    summary: "Back the database up without reading the backup again",
    params: #{ level: #{ default_value: 1, help: "gzip level" } },
};
let db = postgres();
step "Dump" {
    dump(db).gzip(params.level).hash().save(`backups/database/${db.name}_db_${run_stamp()}.sql.gz`);
}
END

prepare=fresh_backups
contest "\`pg_dump \\| gzip\`, \`sha256sum\`, \`gzip -t\`" gzip guide_database \
    "backup, level 1" "ours_database 1" "<= 0.09" "backup, level 4" "ours_database 4" "" "backup, level 6" "ours_database 6" "<= 0.13"
contest "the same with pigz" pigz pigz_database \
    "backup, level 1" "ours_database 1" "" "backup, level 6" "ours_database 6" ""
contest "\`pg_dump -Fd -j2 -Z6\`" pg_dump directory_database \
    "backup, level 1" "ours_database 1" "<= 0.12" "backup, level 1, not verified" "ours_unverified 1" "<= 0.12" \
    "backup, level 6" "ours_database 6" ""
contest "\`pg_dump > /dev/null\`" pg_dump discarded_database "backup, level 1" "ours_database 1" "<= 1.2" \
    "backup, level 1, not verified" "ours_unverified 1" "<= 1.2"
contest "\`pg_dump \\| restic backup --stdin\`, first run" restic restic_database "backup, level 1" "ours_database 1" ""
contest "\`pg_dump \\| borg create\`, first run" borg borg_database "backup, level 1" "ours_database 1" ""

fresh_backups
guide_database
ours_database 6 >"$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }
prepare=nothing
contest "\`sha256sum -c\`, \`gzip -t\`" gzip guide_verify "verify" "ours_verify" "<= 0.15"

our_dump=$work/$(basename "$(find "$work/project/backups" -name '*.sql.gz')")
mv "$work/project/backups/database/"* "$work/"
mv "$work/theirs/db.sql.gz" "$work/db.sql.gz"
"$bin/pg_dump" -Fd -j2 -Z6 -f "$work/db.dir"
# The first restore after the start of a server makes its WAL files, so it does not count.
fresh_target
guide_restore
prepare=fresh_target
contest "\`gunzip \\| psql\`" psql guide_restore "restore" "ours_restore $our_dump" "<= 0.5" \
    "restore, rows counted and not compared" "ours_restore $our_dump --skip-compare" "<= 0.5" \
    "restore of a plain \`pg_dump \\| gzip\`" "ours_restore $work/db.sql.gz" ""
contest "\`pg_restore -j2\` of a directory" pg_restore directory_restore "restore" "ours_restore $our_dump" "<= 0.8" \
    "restore, rows counted and not compared" "ours_restore $our_dump --skip-compare" "<= 0.8"

prepare=fresh_backups
contest "\`tar czf\`, \`sha256sum\`" tar guide_tree \
    "archive of a tree, level 1" "ours_tree 1" "<= 0.17" "archive of a tree, level 6" "ours_tree 6" ""
contest "\`tar \\| pigz\`, \`sha256sum\`" pigz pigz_tree \
    "archive of a tree, level 1" "ours_tree 1" "" "archive of a tree, level 6" "ours_tree 6" ""
contest "\`restic backup\`, first run" restic restic_tree "archive of a tree, level 1" "ours_tree 1" ""
contest "\`borg create\`, first run" borg borg_tree "archive of a tree, level 1" "ours_tree 1" ""

fresh_backups
tar czf "$work/tree.tar.gz" -C "$tree" .
ours_tree 6 >"$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }
mv "$work/project/backups/config/"* "$work/"
our_tree=$(find "$work" -maxdepth 1 -name '*_config_*.tar.gz')
prepare=fresh_folder
contest "\`tar xzf\`, \`sync\`" tar guide_extract "extract, with the archive verified first" "ours_extract" ""
rm -rf "$work/out.d"

say "the swap under load"
# A client that connects anew for each question notes when it was answered.
hammer() {
    while [[ ! -e $work/stop ]]; do
        if psql -A -t -d restored -c 'SELECT FROM public.users LIMIT 1' >/dev/null 2>&1; then
            echo "$EPOCHREALTIME answered"
        else
            echo "$EPOCHREALTIME refused"
        fi
    done >"$work/client$1"
}
fresh_target
ours_restore "$our_dump" >"$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }
: >"$work/swaps"
: >"$work/gaps"
for ((round = 0; round < rounds; round++)); do
    rm -f "$work/stop"
    hammer 1 &
    hammer 2 &
    ours_restore "$our_dump" >"$work/out" 2>&1 || { cat "$work/out" >&2; failed=1; }
    touch "$work/stop"
    wait
    "$lifeboat" --project "$work/project" show latest --json |
        grep -o '"swap_millis": *[0-9]*' | tail -1 | awk -F: '{ print $2 / 1000 }' >>"$work/swaps"
    for client in 1 2; do
        awk '/answered/ { if (last && $1 - last > most) most = $1 - last; last = $1 } END { print most + 0 }' "$work/client$client"
    done >>"$work/gaps"
done
row "swap of the live database, two clients hammering" "" "" "$(median <"$work/swaps")" "" "under 0.5 s" "" ""
row "longest that such a client had no answer, in the whole restore" "" "" "$(median <"$work/gaps")" "" "" "" ""

say "peak memory"
"$bin/createdb" small
psql -v scale=2 -d small -f stdlib/sample.sql
# The largest process of a run, in MiB.
peak() {
    if ! command -v /usr/bin/time >/dev/null; then
        echo "\`time\` is not installed"
        return
    fi
    /usr/bin/time -o "$work/peak" -f %M "$@" >"$work/out" 2>&1 || [[ $? == 3 ]] || { cat "$work/out" >&2; echo failed; return; }
    awk 'END { printf "%.0f MiB\n", $1 / 1024 }' "$work/peak"
}
run=("$lifeboat" --project "$work/project" --quiet)
memory=$(PGDATABASE=small peak "${run[@]}" backup_database)
row "peak memory of a backup at scale 2" "" "" "$memory" "" "<= 64 MiB" "" ""
row "peak memory of a backup at scale $scale" "" "" "$(peak "${run[@]}" backup_database)" "" "<= 64 MiB" "" ""
row "peak memory of verifying" "" "" "$(peak "${run[@]}" verify_backups "$our_dump")" "" "<= 64 MiB" "" ""
fresh_target
memory=$(PGDATABASE=restored peak "${run[@]}" restore --yes --database "$our_dump")
row "peak memory of a restore" "" "" "$memory" "" "<= 64 MiB" "" ""
memory=$(peak "${run[@]}" backup_config --root "$tree" --include '**')
row "peak memory of an archive" "" "" "$memory" "" "<= 64 MiB" "" ""

# pgBackRest copies the files of the whole cluster, so there is nothing but the sample in it, and WAL is archived.
fresh_target
"$bin/dropdb" restored
"$bin/dropdb" small
prepare=fresh_backups
if command -v pgbackrest >/dev/null; then
    {
        printf '%s\n' "[global]" "repo1-path=$work/archived/repo" "repo1-retention-full=1" "compress-type=gz" "process-max=2"
        printf '%s\n' "start-fast=y" "log-level-file=off" "log-path=$work/archived" "lock-path=$work/archived"
        printf '%s\n' "spool-path=$work/archived" "[bench]" "pg1-path=$work/data" "pg1-socket-path=$work/socket" "pg1-user=postgres"
    } >"$work/pgbackrest.conf"
    chmod 644 "$work/pgbackrest.conf"
    printf '%s\n' "archive_mode = on" \
        "archive_command = 'pgbackrest --config=$work/pgbackrest.conf --stanza=bench archive-push %p'" >>"$work/data/postgresql.conf"
    server restart
    backrest --log-level-console=warn stanza-create
fi
contest "\`pgbackrest --type=full backup\`, gz, 2 processes: a physical copy of the cluster" pgbackrest backrest_database \
    "backup, level 1" "ours_database 1" "" "backup, level 6" "ours_database 6" ""

began=$EPOCHREALTIME
for _ in $(seq 20); do "$lifeboat" --project "$work/project" playbooks >/dev/null; done
mean=$(awk -v began="$began" -v ended="$EPOCHREALTIME" 'BEGIN { printf "%.3f", (ended - began) / 20 }')
row "start of \`lifeboat playbooks\`, mean of 20" "" "" "$mean" "" "under 0.02 s" "" ""

if ((lists > 0)); then
    say "$lists backups and runs"
    LIFEBOAT=$lifeboat cargo bench --locked --quiet --bench lists -- "$lists" >"$work/lists"
    while IFS='|' read -r _ command cold warm _; do
        command=${command# }
        row "${command% } with $lists backups and runs" "" "" "$(xargs <<<"$warm") (without a cache $(xargs <<<"$cold"))" "" "under 1 s" "" ""
    done < <(grep '^| `lifeboat' "$work/lists")
else
    row "listing, rotating, status" "" "" "not measured" "" "under 1 s" "" ""
fi
say "the table is in \`target/peers.md\`"
exit "$failed"
