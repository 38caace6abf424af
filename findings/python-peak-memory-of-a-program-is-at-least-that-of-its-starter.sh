#!/usr/bin/env bash
# CPython 3.11 on Linux 6: `resource.getrusage(RUSAGE_SELF).ru_maxrss` of a program that `subprocess` has started is at
# least the peak of the process that started it: the kernel carries it over when the new program replaces the copy. A
# small program started by a large one, such as a benchmark's worker, appears to need as much; two workers that are
# compared appear to need the same. VmHWM in /proc/self/status belongs to the program alone.
# Seen: "ru_maxrss: 400 MiB or more", "VmHWM: less than 100 MiB".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
cat > "$work/child.py" <<'P'
import resource
(line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
usage, own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, int(line.split()[1]) / 1024
print(f"ru_maxrss: {'400 MiB or more' if usage >= 400 else 'less'}")
print(f"VmHWM: {'less than 100 MiB' if own < 100 else 'more'}")
P
cat > "$work/parent.py" <<'P'
import subprocess, sys
held = bytearray(b"1") * (400 * 2**20)
subprocess.run([sys.executable, sys.argv[1]], check=True)
P
seen=$(python3 "$work/parent.py" "$work/child.py")
echo "$seen"
[ "$seen" = "ru_maxrss: 400 MiB or more
VmHWM: less than 100 MiB" ]
