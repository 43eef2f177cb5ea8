# shellcheck shell=bash
# Gets a machine ready to build and test: sourced by demo.sh, test.sh and .ci/run. It installs what is missing on Debian
# and its relatives, says what to install elsewhere, and is silent and quick when everything is there.

set -euo pipefail

RUST_NEEDED="1.95"

# Where the drop-in stands that keeps Debian's package from making a cluster while it is being installed.
CLUSTER_CONF="/etc/postgresql-common/createcluster.conf"
CLUSTER_DROP_IN="/etc/postgresql-common/createcluster.d/lifeboat-setup.conf"

say() {
    printf '%s\n' "$*" >&2
}

die() {
    say "error: $1"
    shift
    local hint
    for hint in "$@"; do
        say "hint: $hint"
    done
    exit 1
}

# Whether one of PostgreSQL's programs is where Lifeboat looks for it.
has_pg_program() {
    if [[ -n "${LIFEBOAT_PG_BINDIR:-}" ]]; then
        [[ -x "$LIFEBOAT_PG_BINDIR/$1" ]]
        return
    fi
    command -v "$1" >/dev/null && return
    local path
    for path in \
        /usr/lib/postgresql/*/bin/"$1" /usr/pgsql-*/bin/"$1" /usr/local/pgsql/bin/"$1" \
        /opt/homebrew/opt/postgresql@*/bin/"$1" /usr/local/opt/postgresql@*/bin/"$1" \
        /Library/PostgreSQL/*/bin/"$1" /Applications/Postgres.app/Contents/Versions/*/bin/"$1" \
        /run/current-system/sw/bin/"$1"; do
        [[ -x "$path" ]] && return
    done
    return 1
}

has_postgresql() {
    has_pg_program initdb && has_pg_program postgres && has_pg_program pg_dump && has_pg_program psql
}

# Whether C compiles, which the crates for TLS and compression need; headers come in a package of their own.
has_c_compiler() {
    command -v cc >/dev/null && cc -E -x c - <<<'#include <stdlib.h>' >/dev/null 2>&1
}

# Runs a command as root.
as_root() {
    if [[ $EUID -eq 0 ]]; then
        "$@"
    else
        sudo "$@"
    fi
}

# Runs a command as root and shows what it printed only if it fails.
quietly_as_root() {
    local log
    log=$(mktemp)
    if ! as_root env DEBIAN_FRONTEND=noninteractive "$@" >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

apt() {
    quietly_as_root apt-get -qq -o DPkg::Lock::Timeout=300 "$@"
}

# Debian's package makes a cluster and starts it on port 5432 when it is installed. The drop-in forbids that; it goes
# afterwards, so that later installations do what their owner expects.
forbid_main_cluster() {
    if [[ -e "$CLUSTER_CONF" ]] && ! grep -Eq '^[[:space:]]*include_dir' "$CLUSTER_CONF"; then
        grep -Eq "^[[:space:]]*create_main_cluster[[:space:]=]+'?(false|off|no|0)" "$CLUSTER_CONF" && return
        die "\`$CLUSTER_CONF\` does not read drop-ins, so installing PostgreSQL would start a cluster" \
            "Set \`create_main_cluster = false\` in it, and start this script again."
    fi
    trap allow_main_cluster EXIT
    as_root mkdir -p "${CLUSTER_DROP_IN%/*}"
    as_root tee "$CLUSTER_DROP_IN" >/dev/null <<<'create_main_cluster = false'
}

allow_main_cluster() {
    as_root rm -f "$CLUSTER_DROP_IN"
    as_root rmdir "${CLUSTER_DROP_IN%/*}" 2>/dev/null || true
    trap - EXIT
}

install_with_apt() {
    if [[ $EUID -ne 0 ]] && ! command -v sudo >/dev/null; then
        die "$1 must be installed, which needs root" "Run \`apt-get install $1\` as root."
    fi
    say "installing $1"
    # One broken source among several need not matter; whether it does, the installation tells.
    apt update || say "warning: not all lists of packages could be read"
    case " $1 " in
        *" postgresql "*) forbid_main_cluster ;;
    esac
    local packages
    read -ra packages <<<"$1"
    apt install --no-install-recommends "${packages[@]}" ||
        die "$1 cannot be installed" "Check the network, \`/etc/apt/sources.list\` and what apt-get printed above."
    if [[ -n "$(trap -p EXIT)" ]]; then
        allow_main_cluster
    fi
}

# How to install a C compiler and PostgreSQL's server and client programs on this system.
# shellcheck disable=SC2016 # backquotes set commands off in hints
how_to_install() {
    if command -v dnf >/dev/null; then
        printf '%s' 'Run `sudo dnf install gcc postgresql-server postgresql`.'
    elif command -v zypper >/dev/null; then
        printf '%s' 'Run `sudo zypper install gcc postgresql-server postgresql`.'
    elif command -v pacman >/dev/null; then
        printf '%s' 'Run `sudo pacman -S --needed gcc postgresql`.'
    elif command -v apk >/dev/null; then
        printf '%s' 'Run `sudo apk add build-base postgresql postgresql-client`.'
    elif [[ "$(uname -s)" == Darwin ]]; then
        printf '%s' 'Run `xcode-select --install` and `brew install postgresql@17`.'
    else
        printf '%s' 'Install a C compiler, and the server and client programs of PostgreSQL.'
    fi
}

ensure_packages() {
    local packages=()
    has_c_compiler || packages+=(gcc libc6-dev)
    has_postgresql || packages+=(postgresql)
    [[ ${#packages[@]} -eq 0 ]] && return
    if [[ -n "${LIFEBOAT_PG_BINDIR:-}" ]] && ! has_postgresql; then
        die "\`$LIFEBOAT_PG_BINDIR\`, which LIFEBOAT_PG_BINDIR names, lacks initdb, postgres, pg_dump or psql" \
            "Set LIFEBOAT_PG_BINDIR to the folder that holds them, or unset it."
    fi
    if command -v apt-get >/dev/null; then
        install_with_apt "${packages[*]}"
    else
        die "a C compiler or PostgreSQL's programs are missing" "$(how_to_install)" \
            "If they are in an unusual place, set LIFEBOAT_PG_BINDIR to the folder of PostgreSQL's programs."
    fi
    has_c_compiler || die "cc still does not compile" "$(how_to_install)"
    has_postgresql || die "PostgreSQL's programs are still not found" \
        "Set LIFEBOAT_PG_BINDIR to the folder that holds initdb, postgres, pg_dump and psql."
}

# For the tests alone, which stop, build and start real services.
ensure_docker() {
    command -v docker >/dev/null && command -v docker-compose >/dev/null && return
    if command -v apt-get >/dev/null; then
        install_with_apt "docker.io docker-compose"
    else
        die "docker or docker-compose is missing, and tests start real services with them" \
            "Install Docker Engine and docker-compose."
    fi
}

# For the tests alone, which install crontabs and have systemd check its units.
ensure_schedulers() {
    local packages=()
    command -v crontab >/dev/null || packages+=(cron)
    command -v systemd-analyze >/dev/null || packages+=(systemd)
    [[ ${#packages[@]} -eq 0 ]] && return
    if command -v apt-get >/dev/null; then
        install_with_apt "${packages[*]}"
    else
        die "crontab or systemd-analyze is missing, and tests use them" "Install cron and systemd."
    fi
}

# For benches alone: the programs that Lifeboat is measured against. What cannot be installed is left to the table to say.
ensure_peers() {
    local pair
    for pair in pigz:pigz restic:restic borg:borgbackup pgbackrest:pgbackrest /usr/bin/time:time; do
        command -v "${pair%:*}" >/dev/null && continue
        if ! command -v apt-get >/dev/null || ! (install_with_apt "${pair#*:}"); then
            say "warning: ${pair#*:} is not installed, so it is not measured"
        fi
    done
}

ensure_rust() {
    # A fresh installation is in the PATH of new shells only.
    local own="${CARGO_HOME:-${HOME:-}/.cargo}/bin"
    if ! command -v cargo >/dev/null && [[ -x "$own/cargo" ]]; then
        export PATH="$own:$PATH"
    fi
    if ! command -v cargo >/dev/null; then
        die "Rust is missing: cargo is not in PATH" \
            "Run \`curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh\`, and start this script again."
    fi
    local version major minor
    version=$(cargo --version)
    IFS=' .' read -r _ major minor _ <<<"$version"
    if ((major < ${RUST_NEEDED%.*} || (major == ${RUST_NEEDED%.*} && minor < ${RUST_NEEDED#*.}))); then
        die "Rust $RUST_NEEDED or newer is needed, and this is $version" \
            "Run \`rustup update stable && rustup default stable\`."
    fi
}

ensure_rust
ensure_packages
