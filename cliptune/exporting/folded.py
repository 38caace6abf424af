"""A run without its text tower: image tower, learnables and text features in one file, its settings in another."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as from_safetensors
from safetensors.torch import save_file
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.batch import Batch
from cliptune.calibration import softened
from cliptune.clip.model import CLIP, CLIPConfig
from cliptune.clip.tokenizer import default_tokenizer
from cliptune.exported.classifier import ExportedClassifier
from cliptune.exported.description import Description
from cliptune.exporting.graph import check_alone
from cliptune.files import atomic_write_json
from cliptune.preprocessing import Preprocessing
from cliptune.prompts.base import MixedPrompt
from cliptune.reading import content_of, json_value, shown
from cliptune.registry import build
from cliptune.registry.plugins import found_again, is_path, parts_of
from cliptune.texts import ClassSet

WEIGHTS, SETTINGS = "folded.safetensors", "folded.json"
FORMAT = 1
_IMAGE, _LEARNED = "clip.image.", "learned."


class FoldedTarget:
    """Writes a folded classifier.

    Args:
        adapter: speaking of the classes that are asked about. run: `adapter_config.json` of its run.
        dtype: of the image tower.
    Raises: ValueError where the texts depend on the image, or the image tower is another library's.
    """

    def __init__(self, adapter: Adapter, run: Mapping[str, Any], dtype: torch.dtype) -> None:
        check_alone(adapter)
        _check_own_tower(adapter.clip)
        tower = {f"{_IMAGE}{name}": _cast(value, dtype) for name, value in adapter.clip.image.state_dict().items()}
        learned = {f"{_LEARNED}{name}": value for name, value in adapter.learnables().items()}
        rest = {"clip.logit_scale": adapter.clip.logit_scale.detach(), "text_features": _features(adapter)}
        self._tensors = {name: value.contiguous() for name, value in {**tower, **learned, **rest}.items()}
        self._settings = {
            "format": FORMAT,
            "method": run["method"],
            "config": run["config"],
            "plugins": run.get("plugins", {}),
            "sizes": run["backbone"]["sizes"],
            "trained": run["classes"],
            "classes": {"names": list(adapter.class_names), "template": adapter.classes.template},
            "seen": adapter.seen,
        }

    def write(self, path: Path, about: Description) -> ExportedClassifier:
        save_file(self._tensors, path)
        self.describe(path, about)
        return FoldedModel(path.parent)

    def describe(self, path: Path, about: Description) -> None:
        atomic_write_json(path.with_name(SETTINGS), {**self._settings, "about": about.plain})


def _check_own_tower(clip: CLIP) -> None:
    kind = getattr(clip.image, "kind", None)  # which only towers of other libraries say
    if kind is not None:
        raise ValueError(
            "export: a folded classifier is built again from the sizes of CLIP's own image towers, and the image tower "
            f"of {clip.name} is another library's, {kind}. Use --to onnx or --to torch-export, which keep any tower."
        )


def _features(adapter: Adapter) -> Tensor:
    with adapter.evaluating():
        features = adapter.text_features()
    if features is None:
        raise ValueError(
            "export: the texts of this method depend on the image, so it cannot be folded without its text tower. Use "
            "--to onnx or --to torch-export, which keep the tower, or a method with fixed texts."
        )
    return features.detach().cpu()


def _cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.detach().to(dtype) if value.is_floating_point() else value.detach()


class FoldedModel(ExportedClassifier):
    """A folded classifier in a folder, answered by torch.

    The adapter is built as its run's was, by the same method and options; only the text tower is empty, and the text
    features come from the file.

    Args:
        folder: that `export(…, to="folded")` wrote.
        device: where it goes.
    Raises: FileNotFoundError if a file is missing; ValueError if one is damaged, or they do not fit each other.
    """

    def __init__(self, folder: str | Path, device: str | torch.device = "cpu") -> None:
        folder = Path(folder).expanduser()
        settings = _settings(folder / SETTINGS)
        tensors = _tensors(folder / WEIGHTS)
        try:
            self.description = Description.read(json.dumps(settings["about"]), str(folder))
            self.adapter = _rebuilt(settings, tensors, str(folder), self.description).to(device).eval()
            self._features = tensors["text_features"].to(device)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{folder}: {SETTINGS} or {WEIGHTS} was edited, {shown(str(error), 200)} is not as it was written. "
                "Export the run again."
            ) from error

    @torch.no_grad()
    def _answer(self, prepared: np.ndarray) -> np.ndarray:
        device = self._features.device
        pixels = torch.from_numpy(np.ascontiguousarray(prepared)).to(device).float() / 255
        logits = self.adapter(Batch.of(pixels), text_features=self._features).logits
        answer: np.ndarray = softened(logits, self.description.temperature).cpu().numpy()
        return answer


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} holds no folded classifier: there is no {path.name} in it.")
    try:
        settings: dict[str, Any] = json_value(content_of(path))
        version = settings["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not readable ({shown(str(error), 200)}). Export the run again.") from error
    if version != FORMAT:
        raise ValueError(
            f"{path} is of format {shown(repr(version))}; this version reads {FORMAT}. Export the run again."
        )
    return settings


def _tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} holds no folded classifier: there is no {path.name} in it.")
    try:
        return from_safetensors(path.read_bytes())
    except OSError:
        raise
    except Exception as error:  # of its own kind, or a KeyError for a type of numbers that torch does not have
        raise ValueError(f"{path} is not a whole safetensors file ({shown(str(error), 200)}). Export again.") from error


def _rebuilt(settings: Mapping[str, Any], tensors: Mapping[str, Tensor], who: str, about: Description) -> Adapter:
    sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings["sizes"].items()}
    clip = CLIP.of_sizes(CLIPConfig(**sizes), default_tokenizer(), settings["about"]["backbone"])
    tower = {name.removeprefix(_IMAGE): value for name, value in tensors.items() if name.startswith(_IMAGE)}
    try:
        clip.image.load_state_dict(tower, assign=True)
    except RuntimeError as error:
        raise ValueError(f"{who}: the image tower is not whole ({shown(str(error), 200)}). Export again.") from error
    clip.preprocessing = Preprocessing.from_dict({"mean": about.mean, "std": about.std}, about.pictures)
    clip.logit_scale.data.copy_(tensors["clip.logit_scale"])
    clip.freeze()
    if any(map(is_path, parts_of(settings["method"]))):  # a program, which what is folded never names
        raise ValueError(f"{who}: its method {shown(settings['method'])!r} is a file. Export the run again.")
    method = found_again(settings["method"], settings["plugins"], who)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said when the run was made
        adapter = build(method, clip, ClassSet(**settings["trained"]), **settings["config"]).adapter
    adapter.load_learnables(
        {name.removeprefix(_LEARNED): value for name, value in tensors.items() if name.startswith(_LEARNED)}
    )
    asked = settings["classes"]
    adapter.set_classes(asked["names"], template=asked["template"], seen=settings["seen"])
    for part in adapter.prompt.modules():
        if isinstance(part, MixedPrompt):
            part.weight = about.weight
    return adapter
