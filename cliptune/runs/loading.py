"""Opening a run's folder again: its adapter, on the backbone that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.clip.weights.load import load_clip
from cliptune.clip.weights.other_towers import OTHERS
from cliptune.preprocessing import Preprocessing
from cliptune.prompts.base import MixedPrompt
from cliptune.reading import shown
from cliptune.registry import build
from cliptune.registry.plugins import found_again
from cliptune.runs.calibrations import read_calibration
from cliptune.runs.checkpoints import load_adapter, read_adapter_config, read_learnables
from cliptune.runs.file_names import CONFIG, CONFIG_FILE, RESULT
from cliptune.runs.manifest import check_whole
from cliptune.texts import ClassSet


def load(folder: str | Path, *, clip: CLIP | None = None, device: torch.device | str = "cpu") -> Adapter:
    """The adapter of a finished run, on the backbone it was trained on, speaking of its training classes.

    Args:
        folder: of the run.
        clip: the backbone; None opens the one that the run names (downloaded weights come from the cache, local ones
            from where they were).
        device: where the adapter goes.
    Returns: the adapter in evaluation mode, with its calibration if it has one.
    A method from a file is executed only if the file is the recorded one, by its SHA-256.
    Raises: FileNotFoundError if the folder holds no finished run, or its backbone or method file is gone; ValueError if
        its files are damaged, of another version, or do not fit the given backbone, or the method file has changed.
    """
    _check_finished(Path(folder).expanduser())
    check_whole(folder)
    adapter = opened(folder, f"Run folder {folder}", clip, device)
    adapter.calibration = read_calibration(folder)
    return adapter


def opened(folder: str | Path, who: str, clip: CLIP | None = None, device: torch.device | str = "cpu") -> Adapter:
    """The adapter of a folder with the two files of one, whether or not they are part of a run.

    Args: as in `load`; who: begins the errors, which are those of `load`.
    """
    description = read_adapter_config(folder)
    backbone = clip if clip is not None else open_backbone(description["backbone"], str(folder))
    if "classes" not in description:
        raise ValueError(f"{who}: its {CONFIG} names no classes. Train the run anew, or restore the file.")
    classes = ClassSet(**description["classes"])
    method = found_again(description["method"], description.get("plugins", {}), who)
    adapter = _built(method, backbone, classes, description["config"], who)
    load_adapter(folder, adapter)
    return adapter.to(device).eval()


def load_on(folder: str | Path, clip: CLIP, *, device: torch.device | str = "cpu") -> Adapter:
    """What a finished run learned, on another backbone than the one it was trained on: patterns on the pixels, say.

    Args:
        folder: of the run.
        clip: the other backbone; whatever was learned must have the same shape there.
        device: where the adapter goes.
    Returns: the adapter in evaluation mode, speaking of the run's training classes.
    Raises: as `load`; ValueError saying which shape does not fit the other backbone, or that the method holds features
        of its own backbone, which another one does not share even where their shapes are equal.
    """
    _check_finished(Path(folder).expanduser())
    check_whole(folder)
    description = read_adapter_config(folder)
    if "classes" not in description:
        raise ValueError(
            f"Run folder {folder}: its {CONFIG} names no classes. Train the run anew, or restore the file."
        )
    who = f"Run folder {folder}"
    method = found_again(description["method"], description.get("plugins", {}), who)
    trained, options = description["backbone"]["name"], description["config"]
    try:
        adapter = build(method, clip, ClassSet(**description["classes"]), **options).adapter
        adapter.load_learnables(read_learnables(folder))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{who}: what {description['method']} learned on {trained} does not fit on {clip.name}. {error}"
        ) from error
    strange = next((part for part in adapter.modules() if getattr(part, "in_embedding_space", False)), None)
    if strange is not None:
        raise ValueError(
            f"{who}: what {description['method']} learned on {trained} cannot be tried on {clip.name}. Its "
            f"{type(strange).__name__} stands among the features of {trained}, and another backbone's are others, even "
            "where they have as many numbers. Train it there; patterns on the pixels (vp, ar, dvp_cse …) carry over."
        )
    return adapter.to(device).eval()


def _built(method: str, clip: CLIP, classes: ClassSet, options: Mapping[str, Any], who: str) -> Adapter:
    """The adapter of noted options. Raises: ValueError if they are not such as a run notes."""
    try:
        return build(method, clip, classes, **options).adapter
    except OSError:
        raise
    except Exception as error:  # options of a wrong kind are met wherever they are used first
        raise ValueError(
            f"{who}: the adapter cannot be built from its {CONFIG}: {shown(str(error), 300)}. Restore the file, or "
            "train the run anew."
        ) from error


def choose_weight(adapter: Adapter, weight: float | None) -> float | None:
    """Have an adapter mix its two prompts with a weight ω in [0, 1]; None lets its classes decide.

    Returns: the weight that it then uses; None for an adapter of one prompt. Raises: ValueError for a weight that it
        cannot take.
    """
    prompt = next((part for part in adapter.prompt.modules() if isinstance(part, MixedPrompt)), None)
    if prompt is None:
        if weight is not None:
            raise ValueError("weight: it is for runs of dpc, whose two prompts it mixes; this run has one prompt.")
        return None
    prompt.weight = weight
    return prompt.evaluation_weight(adapter.seen)


def open_backbone(saved: Mapping[str, Any], who: str) -> CLIP:
    """The CLIP that `adapter_config.json` names under "backbone".

    Args:
        saved: name, sizes and origin.
        who: the run, for error messages.
    Raises: FileNotFoundError or ValueError if it cannot be opened again, saying what to do.
    """
    name, origin = saved["name"], saved["origin"]
    source, activation = origin.get("source"), origin.get("activation")
    if source is None:
        raise ValueError(
            f"The run in {who} was trained on the backbone {name!r}, which was built in memory and not loaded from "
            "anywhere. Give the same CLIP: cliptune.load(folder, clip=…)."
        )
    pictures = saved.get("preprocessing")
    if source == "mini":
        return load_clip("mini", activation=activation, preprocessing=pictures)
    if source == "openai":
        return load_clip(name, "openai", activation=activation, preprocessing=pictures)
    if source.startswith("installed:"):
        return load_clip(source.removeprefix("installed:"))
    if not source.startswith("hf-hub:") and not Path(source).expanduser().exists():
        raise FileNotFoundError(
            f"The run in {who} was trained on the backbone {name!r} from {source}, which is not there any more. "
            "Put it back, or say where it is now: --backbone PATH, or cliptune.load(folder, clip=load_clip(PATH))."
        )
    clip = load_clip(source, **noted_facts(saved))
    clip.name = name
    return clip


def noted_facts(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `load_clip` for what a run noted of its backbone and tensors do not tell: activation, head width and
    preprocessing. Runs that note none of it were made when all pictures were cropped, whatever the weights declared.
    """
    sizes = saved["sizes"]
    heads = {} if sizes.get("image_head_width") else {"head_width": sizes["head_width"]}
    pictures = saved.get("preprocessing", Preprocessing.before_0_2())
    origin = saved["origin"]
    asked = {name: origin[name] for name in ("arch", "hyphens") if origin.get(name)}
    if origin.get("hide_prompts"):
        asked["hide_prompts"] = True
    if origin.get("layout") in OTHERS:  # which leave nothing to ask about their towers
        heads = {}
    return {"activation": origin.get("activation"), "preprocessing": pictures, **heads, **asked}


def _check_finished(folder: Path) -> None:
    """Raises: FileNotFoundError with a sentence that fits what the folder is."""
    if not folder.is_dir():
        what = "a file" if folder.exists() else "not there"
        raise FileNotFoundError(f"Run folder {folder}: expected the folder of a finished run, but it is {what}.")
    if (folder / RESULT).exists():
        return
    if (folder / CONFIG_FILE).exists():
        raise FileNotFoundError(
            f"Run folder {folder}: the run is not finished. Give the command that started it once more; it goes on "
            "where it stopped."
        )
    runs = sorted(str(path.parent) for path in folder.glob(f"**/{RESULT}"))
    hint = f" There are runs in it, such as {runs[0]}." if runs else ""
    raise FileNotFoundError(f"Run folder {folder}: expected the folder of a finished run, found none.{hint}")
