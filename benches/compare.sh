#!/usr/bin/env bash
# Lifeboat against the guide's own shell pipelines, in one run on one machine, as ratios (below 1: Lifeboat is faster).
#
#   benches/compare.sh [SCALE] [ROUNDS]      scale of the sample database (1 is 58 MB of dump, default 4), rounds (3)
#
# Each round runs both sides one after the other, and every figure is the median of the rounds: a machine's speed
# drifts, a ratio within a round does not. A scratch PostgreSQL is started for the run and removed after it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scale=${1:-4}
rounds=${2:-3}

# shellcheck source=.ci/setup.sh
source .ci/setup.sh
command -v bc >/dev/null || die "bc is missing" "Install it, for example with \`apt-get install bc\`."
cargo build --release --locked --quiet
lifeboat=$PWD/target/release/lifeboat

work=$(mktemp -d /tmp/lifeboat-bench.XXXXXX)
bin=$(dirname "$(find "${LIFEBOAT_PG_BINDIR:-/usr/lib/postgresql}" -name postgres -path '*bin*' | sort -V | tail -1)")
as_server() {
    if [[ $(id -u) == 0 ]]; then setpriv --reuid=postgres --regid=postgres --init-groups "$@"; else "$@"; fi
}
clean_up() {
    as_server "$bin/pg_ctl" -D "$work/data" -m immediate -w stop >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap clean_up EXIT
chmod 711 "$work"
mkdir "$work/data" "$work/socket" "$work/project"
if [[ $(id -u) == 0 ]]; then chown postgres: "$work/data" "$work/socket"; fi
as_server "$bin/initdb" -D "$work/data" -U postgres -A trust --no-sync -E UTF8 --locale=C >/dev/null
as_server "$bin/pg_ctl" -D "$work/data" -w -l "$work/data/log" \
    -o "-k $work/socket -c listen_addresses= -c fsync=off -c shared_buffers=256MB" start >/dev/null
export PGHOST=$work/socket PGUSER=postgres PGDATABASE=bench
"$bin/createdb" bench
"$bin/psql" -X -q -v scale="$scale" -f stdlib/sample.sql

# A tree of many small files and a few large ones, made of this project's own text.
tree=$work/tree
mkdir "$tree"
find src -name '*.rs' -exec cat {} + >"$work/text"
for folder in $(seq 1 40); do
    mkdir "$tree/$folder"
    for file in $(seq 1 100); do
        tail -c "+$((folder * file * 97 % 100000 + 1))" "$work/text" 2>/dev/null | head -c "$((file * 211))" \
            >"$tree/$folder/$file.txt" || true
    done
    cat "$work/text" "$work/text" >"$tree/$folder/large.txt"
done

seconds() {
    sync
    local began ended
    began=$(date +%s.%N)
    "$@" >"$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }
    ended=$(date +%s.%N)
    echo "$ended - $began" | bc
}
median() { sort -n | awk '{ a[NR] = $1 } END { printf "%.3f", a[int((NR + 1) / 2)] }'; }
row() { printf '%-78s %8s %8s %8s\n' "$@"; }

guide_database() {
    rm -rf "$work/guide" && mkdir "$work/guide"
    "$bin/pg_dump" | gzip >"$work/guide/db.sql.gz"
    sha256sum "$work/guide/db.sql.gz" >"$work/guide/db.sql.gz.sha256"
    gzip -t "$work/guide/db.sql.gz"
}
guide_config() {
    rm -rf "$work/guide" && mkdir "$work/guide"
    tar czf "$work/guide/tree.tar.gz" -C "$tree" .
    sha256sum "$work/guide/tree.tar.gz" >"$work/guide/tree.tar.gz.sha256"
}
guide_verify() { sha256sum -c --quiet "$work/guide/db.sql.gz.sha256" && gzip -t "$work/guide/db.sql.gz"; }
ours_database() {
    rm -rf "$work/project/backups"
    "$lifeboat" --project "$work/project" --quiet backup_database --level "$1"
}
ours_config() {
    rm -rf "$work/project/backups"
    "$lifeboat" --project "$work/project" --quiet backup_config --root "$tree" --include '**' --level "$1"
}
ours_verify() { "$lifeboat" --project "$work/project" --quiet verify_backups backups/database; }
guide_dump="$work/restore.sql.gz"
fresh_target() {
    "$bin/psql" -X -q -A -t -d postgres -c "SELECT format('DROP DATABASE %I;', datname) FROM pg_database WHERE datname LIKE 'restored%'" |
        "$bin/psql" -X -q -d postgres
    "$bin/createdb" restored
}
guide_restore() { fresh_target && gunzip -c "$guide_dump" | "$bin/psql" -X -q -o /dev/null -v ON_ERROR_STOP=1 -d restored; }
guide_pg_restore() { fresh_target && "$bin/pg_restore" -j 2 -d restored "$work/restore.dir"; }
# Into a database of another name: exit code 3, since that is warned of.
ours_restore() {
    fresh_target
    PGDATABASE=restored "$lifeboat" --project "$work/project" --quiet restore --yes --database "$1" || [[ $? == 3 ]]
}
size() { find "$1" -name '*.gz' -printf '%s\n' | head -1; }

compare() {
    local name=$1 theirs=$2 ours=$3 level=${4:-} sizes="" t o
    : >"$work/theirs"
    : >"$work/ours"
    : >"$work/ratio"
    for _ in $(seq "$rounds"); do
        t=$(seconds "$theirs")
        o=$(seconds "$ours" ${level:+"$level"})
        echo "$t" >>"$work/theirs"
        echo "$o" >>"$work/ours"
        echo "scale=4; $o / $t" | bc >>"$work/ratio"
    done
    if [[ -n $level ]]; then
        sizes=", size x$(echo "scale=3; $(size "$work/project/backups") / $(size "$work/guide")" | bc)"
    fi
    row "$name$sizes" "$(median <"$work/theirs")" "$(median <"$work/ours")" "$(median <"$work/ratio")"
}

row "sample at scale $scale, $(nproc) cores, median of $rounds, seconds" guide lifeboat ratio
compare "backup_database --level 1 / pg_dump | gzip, sha256sum, gzip -t" guide_database ours_database 1
compare "backup_database --level 6 / the same" guide_database ours_database 6
compare "verify_backups / sha256sum -c, gzip -t" guide_verify ours_verify
compare "backup_config --level 1, $(find "$tree" -type f | wc -l) files / tar czf, sha256sum" guide_config ours_config 1
compare "backup_config --level 6 / the same" guide_config ours_config 6

"$bin/pg_dump" | gzip -1 >"$guide_dump"
"$bin/pg_dump" -Fd -Z 1 -f "$work/restore.dir"
rm -rf "$work/project/backups"
"$lifeboat" --project "$work/project" --quiet backup_database --level 1
our_dump=$(find "$work/project/backups" -name '*.sql.gz')
ours_restore_of_ours() { ours_restore "$our_dump"; }
ours_restore_of_theirs() { ours_restore "$guide_dump"; }
compare "restore (verified, checked, swapped) / gunzip | psql" guide_restore ours_restore_of_ours
compare "the same of a plain pg_dump | gzip / gunzip | psql" guide_restore ours_restore_of_theirs
compare "restore / pg_restore -j 2 of a directory dump" guide_pg_restore ours_restore_of_ours
# The last run of Lifeboat in each round restored; its journal tells how long the swap held newcomers back.
"$lifeboat" --project "$work/project" show latest --json |
    grep -o '"swap_millis": *[0-9]*' | tail -1 | sed 's/.*:/swap of the databases: /; s/$/ ms/'

began=$(date +%s%N)
for _ in $(seq 20); do "$lifeboat" --project "$work/project" playbooks >/dev/null; done
echo "start-up: \`lifeboat playbooks\` takes $((($(date +%s%N) - began) / 20000000)) ms"
