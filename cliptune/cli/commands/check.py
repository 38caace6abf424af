"""`cliptune check`: do run folders still hold what their runs wrote?"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from cliptune.cli.shared.options import Flag
from cliptune.cli.shared.output import count, say, show_json

DAMAGED = 1


def check(
    folders: list[str],
    /,
    *,
    json: Flag = False,
) -> int:
    """Compare finished runs with the hashes that they keep of their own files; the exit code is 1 if any is damaged.

    verified: every file is as the run wrote it. unverified: made by version 0.1, which kept no hashes. unfinished: the
    command that started it goes on. damaged: what is wrong follows; `table` leaves such runs out, and `train`, `eval`
    and `predict` refuse them and say what can be made anew.

    Parameters
    ----------
    folders
        Run folders, or folders with runs in them.
    json
        Print JSON: folder, state and problems of each run.
    """
    from cliptune.runs.manifest import verify

    runs = [run for folder in folders for run in _runs(Path(folder).expanduser())]
    verdicts = {str(run): verify(run) for run in dict.fromkeys(runs)}
    found = Counter(verdict.state for verdict in verdicts.values())
    if json:
        show_json([{"run": run, "state": v.state, "problems": dict(v.problems)} for run, v in verdicts.items()])
    else:
        say(*(f"{run}: {verdict}" for run, verdict in verdicts.items()))
        states = ", ".join(f"{n:,} {state}" for state, n in sorted(found.items()))
        say(f"{count(len(verdicts), 'run')}: {states}.")
    return DAMAGED if found["damaged"] else 0


def _runs(folder: Path) -> list[Path]:
    """The run in a folder, or all below it. Raises: FileNotFoundError if there is none."""
    from cliptune.runs.file_names import CONFIG_FILE, RESULT

    def is_run(place: Path) -> bool:
        return (place / CONFIG_FILE).exists() or (place / RESULT).exists()

    if is_run(folder):
        return [folder]
    found = {path.parent for name in (CONFIG_FILE, RESULT) for path in folder.glob(f"**/{name}")}
    if not found:
        raise FileNotFoundError(f"Folder {folder}: expected a run folder, or one with runs in it, found none.")
    return sorted(found)
