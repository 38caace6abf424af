#!/usr/bin/env bash
# Ray 2.60.0: a plain `ray.init()` that starts a cluster of its own turns token authentication on, writes
# ~/.ray/auth_token, and sets RAY_AUTH_MODE=token in the environment of the calling process, where it stays after
# `ray.shutdown()`. Tests that start Ray therefore leave a file in the home, and what later processes do depends on it.
# With RAY_AUTH_MODE=disabled neither happens.
# Seen: "unset: token file True, RAY_AUTH_MODE token", then "disabled: token file False, RAY_AUTH_MODE disabled".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet ray==2.60.0
cat > "$work/try.py" <<'P'
import os
from pathlib import Path
import ray
ray.init(num_cpus=1, object_store_memory=80 * 2**20, include_dashboard=False, log_to_driver=False)
ray.shutdown()
print(f"token file {(Path.home() / '.ray' / 'auth_token').exists()}, RAY_AUTH_MODE {os.environ.get('RAY_AUTH_MODE')}")
P
run() { env -u RAY_AUTH_MODE -u RAY_ADDRESS RAY_TMPDIR="$work/d" RAY_USAGE_STATS_ENABLED=0 "$@" "$work/venv/bin/python" "$work/try.py" 2>/dev/null | tail -n 1; }
mkdir "$work/d" "$work/one" "$work/two"
first=$(run HOME="$work/one")
echo "unset: $first"
second=$(run HOME="$work/two" RAY_AUTH_MODE=disabled)
echo "disabled: $second"
[ "$first" = "token file True, RAY_AUTH_MODE token" ] && [ "$second" = "token file False, RAY_AUTH_MODE disabled" ]
