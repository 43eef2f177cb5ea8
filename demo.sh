#!/usr/bin/env bash
# Shows Lifeboat at work on a throw-away database: installs what is missing, builds, and runs the playbook `demo`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# shellcheck source=.ci/setup.sh
source .ci/setup.sh

# The development profile: without optimizing across crates it builds sooner than the release profile, and as it
# optimizes all crates but Lifeboat's own, what compresses and hashes is at full speed.
if [[ -t 2 ]]; then
    cargo build --locked
else
    cargo build --locked --quiet
fi
# Cargo knows where the program it just built is, and becomes it.
exec cargo run --locked --quiet -- run demo "$@"
