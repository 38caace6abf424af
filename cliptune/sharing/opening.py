"""Opening what others shared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cliptune.clip.weights.hub import PREFIX, hub_files
from cliptune.reading import shown
from cliptune.registry.plugins import is_path, parts_of
from cliptune.runs.calibrations import read_calibration
from cliptune.runs.checkpoints import read_adapter_config
from cliptune.runs.file_names import CALIBRATION, CONFIG, WEIGHTS
from cliptune.runs.loading import opened

if TYPE_CHECKING:
    import torch

    from cliptune.adapter import Adapter
    from cliptune.clip.model import CLIP


def from_pretrained(
    name: str | Path,
    *,
    clip: CLIP | None = None,
    device: torch.device | str = "cpu",
    revision: str | None = None,
    trust: bool = False,
) -> Adapter:
    """The adapter that a folder or a repository of the hub holds, speaking of its training classes.

    Args:
        name: a folder that `save_pretrained` wrote; or "organisation/name", also with "hf-hub:" before it or
            "@revision" behind it.
        clip: the backbone; None opens the one that is named.
        device: where the adapter goes.
        revision: branch, tag or commit on the hub. trust: also take files for which the hub gives no checksum.
    Returns: the adapter in evaluation mode.
    Only safetensors and JSON are read; no program is run, and a method that is one is refused.
    Raises: FileNotFoundError if there is no such folder or repository, or its backbone is not here; ValueError for a
        malformed name, a wrong checksum or files that do not fit; OSError if the hub does not answer.
    """
    folder = Path(name).expanduser()
    if not (folder / CONFIG).is_file():
        if isinstance(name, Path) or folder.is_dir():
            raise FileNotFoundError(f"from_pretrained: {folder} has no {CONFIG}. Give a folder of save_pretrained.")
        files = hub_files(name, (CONFIG, WEIGHTS, CALIBRATION), "from_pretrained", revision=revision, trust=trust)
        missing = [file for file in (CONFIG, WEIGHTS) if file not in files]
        if missing:
            raise FileNotFoundError(
                f"from_pretrained: {PREFIX}{shown(str(name).removeprefix(PREFIX))} has no {' and no '.join(missing)}. "
                "Give a repository that holds a cliptune adapter."
            )
        folder = files[CONFIG].parent
    described = read_adapter_config(folder)
    if described.get("plugins") or any(map(is_path, parts_of(described["method"]))):
        raise ValueError(
            f"from_pretrained: {shown(str(name))} is of a method from outside the package "
            f"({shown(described['method'])}), which is a program and is not run. Ask its author for the run and the "
            "method's file."
        )
    adapter = opened(folder, f"from_pretrained: {shown(str(name))}", clip, device)
    adapter.calibration = read_calibration(folder)
    return adapter
