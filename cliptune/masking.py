"""Masks of the object in every picture of a split, for DAPT: by Grad-CAM, by a segmentation model, by any command."""

from __future__ import annotations

import io
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_tensor

from cliptune.batch import Batch
from cliptune.clip.ports import called
from cliptune.clip.tokenizer import default_tokenizer
from cliptune.clip.towers.image import Patched
from cliptune.clip.weights.hub import hub_folder
from cliptune.data.images import decoded
from cliptune.data.items import Item, Split
from cliptune.data.masks import Masks, checked_mask, labels_of
from cliptune.files import atomic_write_bytes
from cliptune.saliency import class_activation, iou

if TYPE_CHECKING:
    from cliptune.adapter import Adapter

Maker = Callable[[Image.Image, Item], np.ndarray]
"""`(RGB picture of any size, its entry) → (h, w) bool`, true on the object."""

CLIPSEG = "CIDAS/clipseg-rd64-refined"
SAM = "facebook/sam-vit-base"
_CLIPSEG_SIDE = 352
# CLIPSeg and SAM were trained on pictures normalised as for ImageNet, not as for CLIP.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Made:
    """What became of one picture.

    Args:
        path: of the mask. written: false if it was there already or could not be made. error: why not, or "".
    """

    path: Path
    written: bool
    error: str = ""


def make_masks(split: Split, out: str | Path, maker: Maker, *, overwrite: bool = False) -> Iterator[Made]:
    """Write a mask for each picture, 1 on the object and 0 elsewhere, where `MaskFolder(out)` finds it.

    Masks that are there are kept, unless `overwrite`; a picture whose mask has no object or no background is passed
    over. Raises: OSError if a mask cannot be written; what the maker raises.
    """
    named: dict[str, set[str]] = {}
    for name in split.ids:
        named.setdefault(_stem(name), set()).add(name)
    for i, item in enumerate(split.items):
        path = Path(out).expanduser() / f"{item.path if len(named[_stem(item.path)]) > 1 else _stem(item.path)}.png"
        if path.exists() and not overwrite:
            yield Made(path, False)
            continue
        picture = split.image(i)
        try:
            mask = checked_mask(
                maker(picture, item), f"the mask made of {item.path}", f"picture {item.path}", picture.size
            )
        except ValueError as error:
            yield Made(path, False, str(error))
            continue
        buffer = io.BytesIO()
        Image.fromarray((np.asarray(mask) > 0).astype(np.uint8)).save(buffer, format="PNG")
        atomic_write_bytes(path, buffer.getvalue())
        yield Made(path, True)


def _stem(path: str) -> str:
    return Path(path).with_suffix("").as_posix()


@dataclass(frozen=True)
class Agreement:
    """How far two sources of masks agree on the pictures of a split.

    Args:
        iou: (N,) intersection over union in [0, 1], NaN for a picture of which one of them has no mask.
        errors: id of such a picture → why not.
    """

    iou: Tensor
    errors: dict[str, str]

    @property
    def mean(self) -> float:
        """Over the pictures that both have masks of."""
        return float(self.iou.nanmean())


class MadeMasks:
    """What a maker makes, as a source of masks: nothing is written."""

    def __init__(self, maker: Maker) -> None:
        self.maker = maker

    def check(self, split: Split) -> None:
        """A maker can be asked of any picture."""

    def mask(self, split: Split, i: int, size: tuple[int, int]) -> Image.Image:
        path = split[i].path
        found = self.maker(split.image(i), split[i])
        return checked_mask(found, f"the mask made of {path}", f"picture {path}", size)


def mask_agreement(split: Split, first: Masks, second: Masks) -> Agreement:
    """Intersection over union of two sources of masks, picture by picture.

    Args:
        split: pictures.
        first, second: a `MaskFolder`, `ExactMasks`, or `MadeMasks(maker)`.
    Raises: FileNotFoundError or ValueError, before the first picture is read, if masks cannot be had.
    """
    for source in (first, second):
        source.check(split)
    found, errors = torch.full((len(split),), torch.nan), {}
    for i, item in enumerate(split.items):
        size = split.image(i).size
        try:
            a, b = (torch.from_numpy(np.array(source.mask(split, i, size))) for source in (first, second))
        except ValueError as error:
            errors[item.path] = str(error)
        else:
            found[i] = iou(a, b)
    return Agreement(found, errors)


class ByGradCAM:
    """Where an adapter looks for a picture's class: DAPT-G's maps (arXiv:2508.00395) of the whole picture, squeezed
    to the tower's square. Where a whole map is negative, and Grad-CAM therefore empty, it is counted from its minimum.

    Args:
        adapter: its classes are those of the labels.
        threshold: share of the picture's largest saliency from which on a pixel is object, in (0, 1).
    Raises: ValueError for a tower without patches, a host that draws on pixels, or another threshold.
    """

    def __init__(self, adapter: Adapter, threshold: float = 0.5) -> None:
        _check_threshold(threshold)
        tower = adapter.clip.image
        if not isinstance(tower, Patched):
            raise ValueError(
                f"masks: Grad-CAM needs the patches of a ViT, but this backbone has a {called(tower)}. "
                "Use a ViT backbone, or --by clipseg or command."
            )
        with adapter.evaluating(), torch.no_grad():
            if adapter.prompt().pixels is not None:
                raise ValueError("masks: this run draws on the pixels of its views. Use one that learns prompts only.")
            self.text = adapter.text_features()
        self.adapter, self.tower, self.threshold = adapter, tower, threshold

    def __call__(self, picture: Image.Image, item: Item) -> np.ndarray:
        saliency = self.saliency(picture, item)
        return (saliency > self.threshold * saliency.max()).cpu().numpy()

    def saliency(self, picture: Image.Image, item: Item) -> Tensor:
        """(h, w) of the picture, at least 0."""
        side = self.tower.resolution
        bilinear = self.adapter.clip.preprocessing.interpolation == "bilinear"
        filtering = Image.Resampling.BILINEAR if bilinear else Image.Resampling.BICUBIC
        square = to_tensor(picture.resize((side, side), filtering))[None]
        batch = Batch.of(square, torch.tensor([item.label])).to(self.adapter.clip.device)
        cam = class_activation(*self._rows_and_score(batch), self.tower.patches, self.tower.prefix)
        # Where all patches speak against the class, those that do so least.
        cam = cam.relu() if cam.max() > 0 else cam - cam.min()
        size = (picture.height, picture.width)
        return F.interpolate(cam[:, None].float(), size, mode="bilinear", align_corners=True)[0, 0]

    def _rows_and_score(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the last block attends to, and the logit of each picture's own class."""
        kept: list[Tensor] = []

        def keep(rows: Tensor) -> Tensor:
            kept.append(rows.detach().requires_grad_())
            return kept[-1]

        self.tower.watch = keep
        try:
            with torch.enable_grad(), self.adapter.evaluating():
                logits = self.adapter(batch, text_features=self.text).logits
        finally:
            self.tower.watch = None
        return kept[0], logits.gather(1, batch.labels[:, None]).squeeze(1)


class ByCommand:
    """Whatever program makes a mask file of a picture file.

    Args:
        command: words with {image} and {mask}, files that are put in their place; the program reads the first, a PNG
            of the picture as it is read here, and writes the second, of the same size. It is not given to a shell.
    In the mask's first channel, values above half of the largest are object.
    Raises: ValueError if a placeholder is missing.
    """

    def __init__(self, command: str) -> None:
        self.words = shlex.split(command)
        if not self.words or not all(any(name in word for word in self.words) for name in ("{image}", "{mask}")):
            raise ValueError(
                f"masks: the command needs {{image}} and {{mask}} where the two files stand, got {command!r}. "
                "For example: --command 'segment {image} --save {mask}'."
            )

    def __call__(self, picture: Image.Image, item: Item) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            image, mask = Path(folder) / "image.png", Path(folder) / "mask.png"
            picture.save(image)
            words = [word.replace("{image}", str(image)).replace("{mask}", str(mask)) for word in self.words]
            try:
                done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
            except OSError as error:
                raise OSError(
                    f"masks: {self.words[0]} cannot be started: {error.strerror}. Check --command."
                ) from error
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
                raise ValueError(f"masks: the command ended with code {done.returncode} on {item.path}: {last}")
            if not mask.is_file():
                raise ValueError(f"masks: the command wrote no mask of {item.path}. It must write the file {{mask}}.")
            values = decoded(mask, labels_of).astype(np.float64)
        return values > values.max() / 2


class ByCLIPSeg:
    """A CLIPSeg model of transformers (arXiv:2112.10003), asked for the name of each picture's class.

    Args:
        model: name on the Hugging Face hub, perhaps with @revision, or folder. threshold: of its probabilities, in
            (0, 1).
    Raises: ImportError with a sentence without transformers; OSError if there is no such model; ValueError if what was
        fetched is not what the hub names.
    """

    def __init__(self, model: str = CLIPSEG, threshold: float = 0.5, device: str | None = None) -> None:
        _check_threshold(threshold)
        self.model = _pretrained("clipseg", "CLIPSegForImageSegmentation", model, device)
        self.threshold, self.tokenizer = threshold, default_tokenizer()

    @torch.no_grad()
    def __call__(self, picture: Image.Image, item: Item) -> np.ndarray:
        square = picture.resize((_CLIPSEG_SIDE, _CLIPSEG_SIDE), Image.Resampling.BILINEAR)
        mean, std = (torch.tensor(values)[:, None, None] for values in (_MEAN, _STD))
        pixels = ((to_tensor(square) - mean) / std)[None]
        ids = torch.as_tensor(self.tokenizer([f"a photo of a {item.class_name}."]))
        device = self.model.device
        logits = self.model(input_ids=ids.to(device), pixel_values=pixels.to(device)).logits
        side = logits.shape[-1]
        size = (picture.height, picture.width)
        large = F.interpolate(logits.reshape(1, 1, side, side).float(), size, mode="bilinear", align_corners=False)
        return (large.sigmoid()[0, 0] >= self.threshold).cpu().numpy()


class BySAM:
    """A SAM model of transformers (arXiv:2304.02643), which cuts out what lies at the peak of a Grad-CAM map.

    SAM knows no words; the map says where the picture's class is. Of the masks that it offers, the one that it rates
    best is taken.

    Args:
        where: gives the map. model: name on the Hugging Face hub, or folder.
    Raises: as ByCLIPSeg.
    """

    def __init__(self, where: ByGradCAM, model: str = SAM, device: str | None = None) -> None:
        self.where = where
        self.model = _pretrained("sam", "SamModel", model, device)

    def __call__(self, picture: Image.Image, item: Item) -> np.ndarray:
        width, height = picture.size
        peak = divmod(int(self.where.saliency(picture, item).argmax()), width)
        side = self.model.config.vision_config.image_size
        scale = side / max(width, height)
        inner = [max(1, round(length * scale)) for length in (height, width)]
        mean, std = (torch.tensor(values)[:, None, None] for values in (_MEAN, _STD))
        small = (to_tensor(picture.resize((inner[1], inner[0]), Image.Resampling.BILINEAR)) - mean) / std
        # The picture stands in the upper left corner of the square; the rest is zero after normalising.
        square = F.pad(small, (0, side - inner[1], 0, side - inner[0]))[None]
        point = torch.tensor([[[[(peak[1] + 0.5) * scale, (peak[0] + 0.5) * scale]]]])
        device = self.model.device
        with torch.no_grad():
            out = self.model(pixel_values=square.to(device), input_points=point.to(device))
        best = out.pred_masks[0, 0, out.iou_scores[0, 0].argmax()].float()[None, None]
        large = F.interpolate(best, (side, side), mode="bilinear", align_corners=False)[..., : inner[0], : inner[1]]
        large = F.interpolate(large, (height, width), mode="bilinear", align_corners=False)
        return (large[0, 0] > 0).cpu().numpy()


def _pretrained(by: str, kind: str, model: str, device: str | None) -> Any:
    """A model of transformers. Raises: ImportError with a sentence without transformers; OSError if there is none."""
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            f"masks: --by {by} needs transformers, which is not installed. Run: pip install 'cliptune[masks]'"
        ) from error
    where = Path(model).expanduser()
    if not where.is_dir():
        where = hub_folder(model, "masks")
    opened: Any = getattr(transformers, kind).from_pretrained(str(where), local_files_only=True).eval()
    return opened if device is None else opened.to(device)


def _check_threshold(threshold: float) -> None:
    if not 0 < threshold < 1:
        raise ValueError(f"masks: the threshold must be between 0 and 1, got {threshold}.")
