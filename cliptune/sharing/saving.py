"""A run as a folder that others can open, and its way to the hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cliptune.clip.weights.download import offline
from cliptune.clip.weights.hub import PREFIX, named
from cliptune.files import atomic_write_bytes, atomic_write_json, atomic_write_text
from cliptune.reading import shown
from cliptune.registry.plugins import is_path, parts_of
from cliptune.runs.calibrations import read_calibration
from cliptune.runs.checkpoints import read_adapter_config
from cliptune.runs.file_names import CALIBRATION, CONFIG, WEIGHTS
from cliptune.runs.folder import read_result
from cliptune.runs.manifest import check_whole
from cliptune.sharing.card import card

CARD = "README.md"
FILES = (CARD, CONFIG, WEIGHTS, CALIBRATION)
"""All that is shared, the last one where there is one. No program, no picture, no path of this machine."""


def save_pretrained(
    run: str | Path,
    folder: str | Path,
    *,
    push: str | None = None,
    licence: str | None = None,
    private: bool = True,
    overwrite: bool = False,
) -> Path:
    """Write what a finished run learned, its settings and a card into a folder that `from_pretrained` opens.

    Args:
        run: its folder, which has what a card says: numbers, hashes, flags. (An adapter alone has none of them.)
        folder: where the files go.
        push: "organisation/name" on the hub, where they go as well.
        licence: of what was learned, as the hub spells it ("mit", "cc-by-4.0"); None to say none.
        private: of a repository that is made now.
        overwrite: replace files of an earlier call.
    Returns: the folder.
    Raises: FileNotFoundError or ValueError if it is no finished run, is damaged, or needs a program of its own; if
        files are there already; as `push_to_hub` does.
    """
    check_whole(run)
    result = read_result(run)
    if result is None:
        raise FileNotFoundError(f"save_pretrained: {run} holds no finished run. Give the folder of one.")
    config = _without_places(read_adapter_config(run), run)
    folder = Path(folder).expanduser()
    if push is not None:
        _repository(push)
    there = [name for name in FILES if (folder / name).exists()]
    if there and not overwrite:
        raise ValueError(f"save_pretrained: {folder} has {', '.join(there)} already. Give another, or overwrite=True.")
    atomic_write_bytes(folder / WEIGHTS, (Path(run).expanduser() / WEIGHTS).read_bytes())
    atomic_write_json(folder / CONFIG, config)
    if read_calibration(run) is not None:
        atomic_write_bytes(folder / CALIBRATION, (Path(run).expanduser() / CALIBRATION).read_bytes())
    else:
        (folder / CALIBRATION).unlink(missing_ok=True)
    atomic_write_text(folder / CARD, card(config, result, push, licence))
    if push is not None:
        _upload(folder, _repository(push), private)
    return folder


def push_to_hub(run: str | Path, repository: str, *, licence: str | None = None, private: bool = True) -> str:
    """Put a finished run on the hub.

    Args: as in `save_pretrained`; repository: "organisation/name", made if it is not there.
    Returns: the address of the commit. You are who `hf auth login`, or the variable HF_TOKEN, says.
    Raises: ValueError for another kind of name; OSError if offline mode is on, or the hub refuses or does not answer.
    """
    import tempfile

    name = _repository(repository)
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(run, folder, licence=licence)
        config, result = read_adapter_config(folder), read_result(run) or {}
        atomic_write_text(Path(folder) / CARD, card(config, result, name, licence))
        return _upload(Path(folder), name, private)


def _repository(name: str) -> str:
    repository, revision = named(name, None, "push_to_hub")
    if revision is not None:
        raise ValueError(f"push_to_hub: expected organisation/name, without a revision, got {shown(name)!r}.")
    return repository


def _upload(folder: Path, repository: str, private: bool) -> str:
    from huggingface_hub import HfApi

    if offline():
        raise OSError("push_to_hub: offline mode is on (CLIPTUNE_OFFLINE or HF_HUB_OFFLINE). Unset it to push.")
    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=list(FILES),
            commit_message="Add a cliptune adapter",
        )
    except Exception as error:  # of the client's own kinds, and those of its network library
        reason = shown((str(error).splitlines() or [type(error).__name__])[0], 300)
        raise OSError(
            f"push_to_hub: the hub did not take {PREFIX}{repository} ({reason}) Log in with `hf auth login`, and check "
            "the name."
        ) from error
    return str(commit.commit_url)


def _without_places(config: dict[str, Any], run: str | Path) -> dict[str, Any]:
    """`adapter_config.json` without paths of this machine. Raises: ValueError for methods that are programs."""
    programs = [part for part in parts_of(config["method"]) if is_path(part)]
    if config.get("plugins") or programs:
        known = ", ".join(config.get("plugins") or programs)
        raise ValueError(
            f"save_pretrained: the run in {run} is of a method from outside the package ({known}), which is a program "
            "and is not shared. Share the run's folder and the method's file with people who trust you, or export it."
        )
    backbone = dict(config["backbone"])
    origin = dict(backbone["origin"])
    source = origin.get("source")
    if isinstance(source, str) and _is_place(source):
        origin["source"] = Path(source).name
    return {**config, "backbone": {**backbone, "origin": origin}, "config": _names_alone(config["config"])}


def _is_place(text: str) -> bool:
    return Path(text).is_absolute() or text.startswith("~")


def _names_alone(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the method, in which a path is only its last part."""
    return {k: Path(v).name if isinstance(v, str) and _is_place(v) else v for k, v in options.items()}
