"""A finished run vouches for itself: the SHA-256 of every file that its numbers depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cliptune.files import atomic_write_bytes, atomic_write_json
from cliptune.reading import content_of, json_value
from cliptune.runs.file_names import (
    CALIBRATION,
    CONFIG,
    CONFIG_FILE,
    ENVIRONMENT,
    MANIFEST,
    METRICS,
    PREDICTIONS,
    PROMPTS,
    RESULT,
    SPLIT,
    STATE,
    WEIGHTS,
)
from cliptune.runs.jsonable import jsonable

FORMAT = 1
MARK = "manifest"
"""Key of `result.json` that says that there has to be a manifest beside it."""
VOUCHED = (CONFIG_FILE, ENVIRONMENT, SPLIT, METRICS, PROMPTS, CONFIG, WEIGHTS)
# From the saved state the same command makes these anew.
_MADE_ANEW = (ENVIRONMENT, SPLIT, CONFIG, WEIGHTS, RESULT, MANIFEST)

State = Literal["verified", "unverified", "unfinished", "damaged"]


@dataclass(frozen=True)
class Verdict:
    """What can be said of a run folder.

    Args:
        state: "verified": every file is as the run wrote it; "unverified": of version 0.1, before runs kept hashes;
            "unfinished": without a result; "damaged": see `problems`.
        problems: file → what is wrong with it.
    """

    state: State
    problems: Mapping[str, str]

    def __str__(self) -> str:
        return self.state + (f": {self.told}" if self.problems else "")

    @property
    def told(self) -> str:
        """The problems in words."""
        return ", ".join(f"{name} {what}" for name, what in self.problems.items())


def verify(folder: str | Path) -> Verdict:
    """Compare a run folder with its manifest. Reads every file once; changes nothing."""
    folder = Path(folder).expanduser()
    if not (folder / RESULT).exists():
        return Verdict("unfinished", {})
    if not (folder / MANIFEST).exists():
        problems = _of_an_older_run(folder)
        return Verdict("damaged" if problems else "unverified", problems)
    manifest = _read(folder)
    if manifest is None:
        return Verdict("damaged", {MANIFEST: "is not as the run wrote it"})
    problems = {}
    for name, expected in {**manifest["files"], RESULT: manifest["result"]}.items():
        path = folder / name
        if not path.is_file():
            problems[name] = "is missing"
        elif _sha256(path.read_bytes()) not in expected:
            problems[name] = "is not as the run wrote it"
    if RESULT not in problems:
        problems |= _answers(folder)
    return Verdict("damaged" if problems else "verified", problems)


def check_whole(folder: str | Path) -> None:
    """Raises: ValueError if a finished run's files are not those that it wrote, saying what can be made anew.

    The answers to single images are left to `read_predictions`, and a calibration to `read_calibration`: no number
    depends on them.
    """
    verdict = verify(folder)
    wrong = {name: what for name, what in verdict.problems.items() if not name.startswith((PREDICTIONS, CALIBRATION))}
    if not wrong:
        return
    if set(wrong) <= set(_MADE_ANEW) and (Path(folder).expanduser() / STATE).exists():
        files = list(dict.fromkeys((*wrong, RESULT)))
        advice = (
            f"Put what was there back; or remove {', '.join(files)} and give the run's command once more: it goes on "
            "from the saved state and makes them anew."
        )
    else:
        advice = "Put what was there back, or make the run anew with overwrite=True (--overwrite)."
    told = ", ".join(f"{name} {what}" for name, what in wrong.items())
    raise ValueError(f"Run folder {folder}: {told}, so its numbers cannot be trusted. {advice}")


def write_result(folder: Path, result: MutableMapping[str, Any]) -> None:
    """Write `result.json`, first or anew, so that at every moment the manifest agrees with what lies there.

    Args:
        folder: of a run whose other files are complete.
        result: gets `MARK` when it is written first.
    Raises: ValueError if the manifest, or the result that is to be replaced, is not as the run wrote it.
    """
    path = folder / RESULT
    if not path.exists():
        result[MARK] = FORMAT
        content = _content(result)
        files = {name: [_sha256((folder / name).read_bytes())] for name in VOUCHED if (folder / name).is_file()}
        _write(folder, files, [_sha256(content)])
    else:
        content = _content(result)
        if (folder / MANIFEST).exists() or MARK in result:
            manifest, here = _read(folder), _sha256(path.read_bytes())
            if manifest is None or here not in manifest["result"]:
                raise ValueError(
                    f"Run folder {folder}: {MANIFEST} and {RESULT} in it do not agree, so nothing was entered. "
                    "`cliptune check` says more."
                )
            # Both, so that neither of the two renames can be the one that a crash leaves out.
            _write(folder, manifest["files"], [here, _sha256(content)])
    atomic_write_bytes(path, content)


def _content(result: Mapping[str, Any]) -> bytes:
    return (json.dumps(jsonable(result), indent=2, ensure_ascii=False) + "\n").encode()


def _write(folder: Path, files: Mapping[str, list[str]], result: list[str]) -> None:
    said = {"format": FORMAT, "files": dict(files), "result": result}
    atomic_write_json(folder / MANIFEST, {**said, "sha256": _digest(said)})


def _read(folder: Path) -> dict[str, Any] | None:
    """The manifest; None if it is damaged."""
    try:
        manifest: dict[str, Any] = json_value(content_of(folder / MANIFEST))
        said = {name: manifest[name] for name in ("format", "files", "result")}
        known = set(said["files"]) <= set(VOUCHED) and all(
            isinstance(hashes, list) for hashes in (said["result"], *said["files"].values())
        )
        return manifest if known and manifest["sha256"] == _digest(said) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _of_an_older_run(folder: Path) -> dict[str, str]:
    """What is wrong with a result that has no manifest beside it; nothing, if it never had one."""
    try:
        result = json_value(content_of(folder / RESULT))
    except ValueError:
        return {RESULT: "is not readable JSON"}
    return {MANIFEST: "is missing"} if isinstance(result, dict) and MARK in result else {}


def _answers(folder: Path) -> dict[str, str]:
    """What is wrong with the answers to single images, and the calibration, whose hashes the whole result holds."""
    problems = {}
    result = json_value(content_of(folder / RESULT))
    kept = [evaluation.get("predictions") for evaluation in (result.get("evaluations") or {}).values()]
    files = {f"{PREDICTIONS}/{Path(noted['file']).name}": noted for noted in kept if noted is not None}
    if result.get("calibration") is not None:
        files[CALIBRATION] = result["calibration"]
    for name, noted in files.items():
        path = folder / name
        if not path.is_file():
            problems[name] = "is missing"
        elif _sha256(path.read_bytes()) != noted["sha256"]:
            problems[name] = "is not as the run wrote it"
    return problems


def _digest(said: Mapping[str, Any]) -> str:
    return _sha256(json.dumps(said, sort_keys=True).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
