#!/usr/bin/env bash
# Runs the tests, after installing what is missing. `--all` adds the long ones, which kill and fill; what follows goes
# to `cargo test`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if [[ "${1:-}" == --all ]]; then
    shift
    export LIFEBOAT_TEST_ALL=1
fi

# shellcheck source=.ci/setup.sh
source .ci/setup.sh
ensure_docker
ensure_schedulers

# The demo is among the tests. It is built before them, so that no compiler works beside them, and its program is put into a folder
# of its own, so that nothing replaces the one that they start.
if [[ $# -eq 0 ]]; then
    target="${CARGO_TARGET_DIR:-target}"
    CARGO_BUILD_BUILD_DIR="$target" cargo build --locked --quiet --target-dir "$target/demo"
fi

exec cargo test "$@"
