"""What cliptune stands on: the oldest releases that pyproject.toml allows, licences, known vulnerabilities.

    python tools/dependencies.py oldest       requirements that pin every dependency to its lower bound
    python tools/dependencies.py licences     a line for each installed package that cliptune needs
    python tools/dependencies.py audit        pip-audit on the installed packages, from an environment of its own

`make oldest` and `make nightly` use them.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]


def requirements() -> list[Requirement]:
    """The dependencies of pyproject.toml that hold for this interpreter."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [Requirement(line) for line in project["dependencies"]]
    return [one for one in found if one.marker is None or one.marker.evaluate()]


def oldest() -> list[str]:
    """`name==version` at the lower bound of each. Raises: ValueError for a dependency without one."""
    lines = []
    for one in requirements():
        bounds = [part.version for part in one.specifier if part.operator == ">="]
        if len(bounds) != 1:
            raise ValueError(f"{one.name}: pyproject.toml gives no lower bound. Write {one.name}>=VERSION.")
        lines.append(f"{one.name}=={bounds[0]}")
    return lines


def needed() -> list[importlib.metadata.Distribution]:
    """Installed packages that cliptune needs, directly or through others, by name."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [one.name for one in requirements()]
    while waiting:
        name = _key(waiting.pop())
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform
        inner = (Requirement(line) for line in found[name].requires or ())
        waiting += [one.name for one in inner if one.marker is None or one.marker.evaluate({"extra": ""})]
    return [found[name] for name in sorted(found)]


def licence(distribution: importlib.metadata.Distribution) -> str:
    """As the package states it: an SPDX expression, else its classifiers, else the first line of its text."""
    metadata = distribution.metadata
    classified = [
        line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier") or () if line.startswith("License")
    ]
    text = next(iter((metadata.get("License") or "").strip().splitlines()), "")
    return metadata.get("License-Expression") or ", ".join(classified) or text or "not stated"


def audit() -> int:
    """Exit code: 0 if no vulnerability is known or nobody could be asked, else 1."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "installed.txt"
        listed.write_text("".join(f"{d.name}=={d.version.partition('+')[0]}\n" for d in needed()))
        venv.create(Path(folder) / "venv", with_pip=True)
        python = str(Path(folder) / "venv" / "bin" / "python")
        made = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "pip-audit"], capture_output=True, text=True, check=False
        )
        if made.returncode:
            print("pip-audit could not be installed here, so known vulnerabilities were not looked up.")
            return 0
        command = [python, "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner", "off"]
        command += ["--format", "json", "--requirement", str(listed)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return told(done.stdout)


def told(answer: str) -> int:
    """Print what pip-audit found, given its answer as JSON ("" if it had none); the exit code."""
    listed = json.loads(answer)["dependencies"] if answer.strip() else []
    looked_up = [one for one in listed if "skip_reason" not in one]
    skipped = [one["name"] for one in listed if "skip_reason" in one]
    if not looked_up:
        print("The advisory service gave no answer here, so known vulnerabilities were not looked up.")
        return 0
    known = [(one, found) for one in looked_up for found in one["vulns"]]
    for one, found in known:
        fixed = ", ".join(found.get("fix_versions") or ()) or "no release yet"
        print(f"{one['name']} {one['version']}: {found['id']}, fixed in {fixed}")
    print(f"{len(looked_up)} packages were looked up, {len(known)} vulnerabilities are known.")
    if skipped:
        print(f"Not looked up: {', '.join(skipped)}.")
    return 1 if known else 0


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _table() -> Iterator[str]:
    for distribution in needed():
        yield f"{distribution.name} {distribution.version}: {licence(distribution)}"


def main(arguments: list[str]) -> int:
    if arguments == ["audit"]:
        return audit()
    if arguments not in (["oldest"], ["licences"]):
        print(__doc__, file=sys.stderr)
        return 2
    print("\n".join(oldest() if arguments == ["oldest"] else _table()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
