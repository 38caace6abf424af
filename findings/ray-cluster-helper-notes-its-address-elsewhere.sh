#!/usr/bin/env bash
# Ray 2.60.0: `ray.cluster_utils.Cluster`, given a temporary folder of its own for the head (`temp_dir`), still notes the
# head's address in the default folder (RAY_TMPDIR, else TMPDIR, else /tmp; then "ray/"), and does not make that folder.
# Where any cluster ran before it works; on a machine where none did, the constructor raises FileNotFoundError once the
# head is up. With RAY_TMPDIR alone, and no `temp_dir`, it works at once.
# Seen: "temp_dir: FileNotFoundError .../ray/ray_current_cluster", then "RAY_TMPDIR: up".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet ray==2.60.0
mkdir "$work/own" "$work/d" "$work/home"
cat > "$work/try.py" <<'P'
import sys
from ray.cluster_utils import Cluster
node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
if len(sys.argv) > 1:
    node["temp_dir"] = sys.argv[1]
try:
    cluster = Cluster(initialize_head=True, head_node_args=node)
    print("up")
    cluster.shutdown()
except FileNotFoundError as error:
    print("FileNotFoundError", error.filename)
P
run() { env HOME="$work/home" RAY_TMPDIR="$work/d" RAY_AUTH_MODE=disabled RAY_USAGE_STATS_ENABLED=0 "$work/venv/bin/python" "$work/try.py" "$@" 2>/dev/null | tail -n 1; }
first=$(run "$work/own")
echo "temp_dir: $first"
second=$(run)
echo "RAY_TMPDIR: $second"
[ "$first" = "FileNotFoundError $work/d/ray/ray_current_cluster" ] && [ "$second" = up ]
