"""A CLIP adapter as a scikit-learn classifier of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from safetensors.torch import load as from_safetensors
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from cliptune.choosing import choose, parse_seconds, usual_candidates
from cliptune.clip.model import CLIP
from cliptune.clip.weights.load import load_clip
from cliptune.clip.weights.usual import usual_backbone
from cliptune.data.images import read_image
from cliptune.data.items import DEFAULT_TEMPLATE, Dataset, Item, Split
from cliptune.data.own.naming import class_name
from cliptune.data.sources import FileSource, MemorySource
from cliptune.protocols.training import train
from cliptune.registry import build
from cliptune.registry.listing import count_learnables
from cliptune.runs import RunFolder, load, read_adapter_config, read_result, save_adapter
from cliptune.runs.checkpoints import backbone as described
from cliptune.runs.checkpoints import to_bytes
from cliptune.runs.jsonable import jsonable
from cliptune.runs.loading import open_backbone
from cliptune.texts import ClassSet
from cliptune.training import SharedImages

AUTO = "auto"
BATCH = 100
KEY = "classifier"
"""Of a saved classifier's result, where its classes and parameters stand."""
# Types of labels that JSON keeps: bool, whole and other numbers, text, Python objects that are one of these.
_KINDS = "biufUO"


class ClipClassifier(ClassifierMixin, BaseEstimator):
    """Pictures in, classes out, by any method of this package.

    X is a sequence of N pictures: paths, Pillow images, or uint8 arrays (h, w), (h, w, 3); or one uint8 array
    (N, h, w, 3). y holds N labels of any type that scikit-learn takes; CLIP reads them as class names, underscores as
    spaces, unless `names` has other words for them.

    Args:
        method: a host with add-ons, such as "coop" or "maple+rlp"; "auto" chooses by cross-validation on the pictures
            that it is fitted to, see `cliptune.choosing.choose`.
        backbone: what `load_clip` takes; None for ViT-B/16 if it is on this machine, else mini, a toy.
        options: of the method; for "auto", of all that are tried.
        template: hand-written sentence with {} for a class name; None for "a photo of a {}.".
        names: label → class name in words, for labels that are not words themselves.
        time: of "auto": how long choosing may take, such as "90s" or "5m".
        classes_later: of "auto": prefer methods that can be asked about other classes.
        training: further arguments of `cliptune.fit`, such as {"views": 4}.
        device: of torch; None takes a CUDA card if there is one.
        random_state: seed; an int is the seed of `cliptune.fit` and `cliptune.build`.
        verbose: show progress.

    Attributes:
        classes_: (C,) sorted labels, the columns of `predict_proba`.
        adapter_: the trained `Adapter`.
        method_: that was trained.
        choice_: what "auto" tried and chose, as `Choice.summary` has it; None for a method that was named.
    """

    _options: dict[str, Any]
    _plugins: Mapping[str, Any]

    def __init__(
        self,
        method: str = AUTO,
        *,
        backbone: str | None = None,
        options: Mapping[str, Any] | None = None,
        template: str | None = None,
        names: Mapping[Any, str] | None = None,
        time: str = "5m",
        classes_later: bool = False,
        training: Mapping[str, Any] | None = None,
        device: str | None = None,
        random_state: Any = 1,
        verbose: bool = False,
    ) -> None:
        self.method = method
        self.backbone = backbone
        self.options = options
        self.template = template
        self.names = names
        self.time = time
        self.classes_later = classes_later
        self.training = training
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: ArrayLike) -> ClipClassifier:
        """Adapt to N pictures with N labels.

        Raises: ValueError for pictures or labels that are none, or of different number, and as `cliptune.fit` does.
        """
        source, paths = self._source(X)
        labels = self._labels(y, len(paths))
        self.classes_, encoded = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                "ClipClassifier: expected at least two classes to tell apart, got 1 class "
                f"({self.classes_.tolist()[0]!r}). Add pictures of another."
            )
        words = self._words()
        items = [Item(path, int(label), words[label]) for path, label in zip(paths, encoded, strict=True)]
        template = DEFAULT_TEMPLATE if self.template is None else self.template
        data = Dataset("pictures", words, Split(items, source), Split.empty(), Split.empty(), template)
        clip = _opened(self.backbone or usual_backbone(), _device(self.device))
        self._adapt(clip, data)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """(N, C) probabilities, in the order of `classes_`."""
        check_is_fitted(self)
        source, paths = self._source(X)
        rows = []
        for start in range(0, len(paths), BATCH):
            pictures = [source.image(i) for i in range(start, min(start + BATCH, len(paths)))]
            rows.append(self.adapter_.logits(pictures).double().softmax(dim=-1).cpu().numpy())
        return np.concatenate(rows)

    def predict(self, X: Any) -> NDArray[Any]:
        """(N,) labels, those of highest probability."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write a folder that `load` and `cliptune predict` open: safetensors and JSON, nothing that runs.

        Raises: ValueError if the folder holds a run, unless `overwrite`, or for parameters that are no plain values.
        """
        check_is_fitted(self)
        adapter, plugins = self.adapter_, {"plugins": self._plugins} if self._plugins else {}
        kept = {
            "classes": self.classes_.tolist(),
            "dtype": self.classes_.dtype.str,
            "params": jsonable({**self.get_params(), "names": None, "random_state": self._seed()}),
            "choice": self.choice_,
        }
        written_by = f"{type(self).__module__}.{type(self).__name__}"
        config = {
            "method": self.method_,
            "options": self._options,
            "backbone": described(adapter.clip),
            "converted_from": written_by,
            "class_names": list(adapter.class_names),
        }
        run = RunFolder(folder, jsonable(config), overwrite=overwrite, resume=False)
        try:
            save_adapter(run.path, adapter, method=self.method_, config=self._options, **self._about(), **plugins)
            run.write_result(
                {
                    "method": self.method_,
                    "protocol": "converted",
                    "backbone": adapter.clip.name,
                    "learnables": count_learnables(adapter),
                    "converted_from": written_by,
                    "notes": list(adapter.notes),
                    "evaluations": {},
                    KEY: kept,
                }
            )
        finally:
            run.release()

    @classmethod
    def load(cls, folder: str | Path, *, device: str | None = None) -> ClipClassifier:
        """A saved classifier.

        Raises: FileNotFoundError or ValueError if the folder holds none, or a damaged one.
        """
        result = read_result(folder) or {}
        kept = result.get(KEY)
        if not isinstance(kept, dict):
            raise ValueError(
                f"{folder} holds no classifier that `save` wrote. A run's adapter is opened by cliptune.load(folder)."
            )
        classifier = cls(**{**kept["params"], "device": device})
        classifier.adapter_ = load(folder, device=_device(device))  # which checks the files
        classifier.classes_ = np.array(kept["classes"], dtype=np.dtype(kept["dtype"]))
        classifier.method_, classifier.choice_ = result["method"], kept["choice"]
        config = read_adapter_config(folder)
        classifier._options, classifier._plugins = config["config"], config.get("plugins", {})
        return classifier

    def __getstate__(self) -> dict[str, Any]:
        """Without the backbone, which is opened again; so a pickle is small."""
        state = dict(super().__getstate__())
        adapter = state.pop("adapter_", None)
        if adapter is not None:
            state["_adapter"] = (self._about(), described(adapter.clip), to_bytes(adapter.learnables()))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        kept = (state := dict(state)).pop("_adapter", None)
        super().__setstate__(state)
        if kept is not None:
            about, backbone, learnables = kept
            clip = open_backbone(backbone, "the pickled classifier")
            adapter = build(self.method_, clip, ClassSet(**about["classes"]), **self._options).adapter
            self.adapter_ = adapter.load_learnables(from_safetensors(learnables)).to(_device(self.device)).eval()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags

    def _about(self) -> dict[str, Any]:
        return {"classes": jsonable(vars(self.adapter_.trained_classes))}

    # -- parts of fit ----------------------------------------------------------------------------------------

    def _source(self, X: Any) -> tuple[FileSource | MemorySource, list[str]]:
        """Where the pictures lie, and what each is called."""
        return pictures(X)

    def _labels(self, y: ArrayLike, n: int) -> NDArray[Any]:
        if y is None:
            raise ValueError("ClipClassifier requires y to be passed, but the target y is None. Give a label for each.")
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        if len(labels) != n:
            raise ValueError(
                f"ClipClassifier: expected one label for each picture, got {n} pictures and {len(labels)} labels."
            )
        if labels.dtype.kind not in _KINDS:
            raise ValueError(f"ClipClassifier: labels must be text or numbers, got {labels.dtype}. Give class names.")
        return labels

    def _words(self) -> tuple[str, ...]:
        """How CLIP reads the classes. Raises: ValueError for a blank one, or two that are read alike."""
        given = self.names or {}
        words = tuple(class_name(str(given.get(label, label))) for label in self.classes_.tolist())
        for number, word in enumerate(words):
            if not word:
                raise ValueError("ClipClassifier: a class name is blank. Give every class a name in words: names={…}.")
            if word.casefold() in (other.casefold() for other in words[:number]):
                raise ValueError(
                    f"ClipClassifier: two classes are both read as {word!r}. Tell them apart in words: names={{…}}."
                )
        return words

    def _adapt(self, clip: CLIP, data: Dataset) -> None:
        seed, shared = self._seed(), SharedImages()
        progress = None if self.verbose else "silent"
        how = {**(self.training or {}), "device": _device(self.device), "shared": shared}
        method, options, more, self.choice_ = self.method, dict(self.options or {}), {}, None
        if method == AUTO:
            choice = choose(
                clip,
                data,
                usual_candidates(),
                seed=seed,
                seconds=parse_seconds(self.time),
                classes_later=self.classes_later,
                options=options,
                say=print if self.verbose else None,
                **how,
            )
            method, self.choice_ = choice.chosen.method, jsonable(choice.summary())
            options, more = {**options, **choice.chosen.options}, dict(choice.chosen.training)
        run = train(
            method, clip, data, protocol="classifier", seed=seed, options=options, progress=progress, **{**how, **more}
        )
        self.method_, self.adapter_ = method, run.adapter.eval()
        self._options, self._plugins = run.options, run.result.get("plugins", {})

    def _seed(self) -> int:
        state = self.random_state
        if isinstance(state, (int, np.integer)):
            return int(state)
        return int(check_random_state(state).randint(2**31 - 1))


def pictures(X: Any) -> tuple[FileSource | MemorySource, list[str]]:
    """Pictures that are held or named, as a source of them and what each is called.

    Args:
        X: as in `ClipClassifier`; also a column of a table, or a table of one column.
    Raises: ValueError for what is no sequence of pictures, or an empty one; FileNotFoundError for a path to nothing.
    """
    if hasattr(X, "to_numpy"):  # a column of pandas, or a table of one
        X = X.to_numpy()
    if isinstance(X, np.ndarray):
        X = _listed(X)
    if isinstance(X, (str, Path)) or not isinstance(X, Sequence):
        raise ValueError(
            "ClipClassifier: expected a sequence of pictures (paths, Pillow images, uint8 arrays) or one uint8 array "
            f"(N, h, w, 3), got {type(X).__name__}. Put a single picture into a list."
        )
    if not len(X):
        raise ValueError("ClipClassifier: expected at least one picture, found 0 samples.")
    if all(isinstance(picture, (str, Path)) for picture in X):
        paths = [str(Path(picture).expanduser()) for picture in X]
        return FileSource("", paths, exif=True), paths
    held = [read_image(picture, exif=True) if isinstance(picture, (str, Path)) else picture for picture in X]
    wrong = next((i for i, picture in enumerate(held) if not _is_picture(picture)), None)
    if wrong is not None:
        raise ValueError(
            f"ClipClassifier: picture {wrong} is a {_told(held[wrong])}, expected a path, a Pillow image, or a uint8 "
            "array (h, w) or (h, w, 3)."
        )
    return MemorySource(held, exif=True), [f"pictures/{i:06d}" for i in range(len(held))]


def _listed(X: NDArray[Any]) -> list[Any]:
    """The pictures of an array. Raises: ValueError for one of another form."""
    if X.dtype == np.uint8 and (X.ndim == 3 or (X.ndim == 4 and X.shape[3] in (3, 4))):
        return list(X)
    if X.dtype.kind in "OU" and (X.ndim == 1 or (X.ndim == 2 and X.shape[1] == 1)):
        return X.ravel().tolist()
    raise ValueError(
        "ClipClassifier: expected a uint8 array (N, h, w, 3), or a row of paths or pictures, got an array of "
        f"{X.dtype} with shape {X.shape}. Scale floating-point pictures to 0 … 255 and convert them to uint8."
    )


def _is_picture(picture: Any) -> bool:
    if isinstance(picture, np.ndarray):
        return picture.dtype == np.uint8 and (picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] in (3, 4)))
    return isinstance(picture, Image.Image)


def _told(value: Any) -> str:
    return f"{value.dtype} array {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


@lru_cache(maxsize=2)
def _opened(backbone: str, device: str) -> CLIP:
    """One frozen CLIP serves all classifiers on a device: a grid search fits many."""
    return load_clip(backbone).to(device)


def _device(device: str | None) -> str:
    return device or ("cuda" if torch.cuda.is_available() else "cpu")
