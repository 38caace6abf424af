"""Maps of where an adapter looks, laid over the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.analysis.finding import PICTURES, Finding
from cliptune.analysis.frozen import frozen
from cliptune.analysis.looking import Target, class_map
from cliptune.batch import Batch
from cliptune.saliency import saliency


@dataclass(frozen=True)
class Overlay:
    """One image and its Grad-CAM maps.

    Args:
        image: its name.
        true, predicted: names of its class and of the adapter's answer.
        probability: of that answer, in [0, 1].
        before, after: (G, G) ≥ 0, map of the frozen CLIP and of the adapter for the same class.
        picture: (3, R, R) in [0, 1].
    """

    image: str
    true: str
    predicted: str
    probability: float
    before: Tensor
    after: Tensor
    picture: Tensor = field(metadata=PICTURES)


@dataclass(frozen=True)
class Overlays(Finding):
    """Where some images speak for a class.

    Args:
        target: the "true" or the "predicted" class of each image.
        shown: the images.
    """

    target: Target
    shown: tuple[Overlay, ...]

    def likeness(self) -> float:
        """Mean over the shown images of the cosine between the maps before and after; NaN if all of one are empty."""
        cosines = [
            torch.nn.functional.cosine_similarity(one.before.flatten().double(), one.after.flatten().double(), dim=0)
            for one in self.shown
            if float(one.before.max()) > 0 and float(one.after.max()) > 0
        ]
        return float(torch.stack(cosines).mean()) if cosines else float("nan")

    def sentence(self) -> str:
        wrong = [one for one in self.shown if one.true != one.predicted]
        empty = sum(float(one.after.max()) == 0 for one in self.shown)
        blank = f" {empty} of them have an empty map: no patch speaks for the class." if empty else ""
        return (
            f"{len(self.shown)} images with where they speak for the {self.target} class, {len(wrong)} of them named "
            f"wrongly; between the frozen CLIP and what was trained, the maps have a mean cosine of "
            f"{self.likeness():.2f}.{blank}"
        )


def overlays(adapter: Adapter, batch: Batch, names: Sequence[str], target: Target = "predicted") -> Overlays:
    """Grad-CAM of images, before and after, for one class each.  (arXiv:1610.02391)

    Args:
        batch: labelled images.
        names: B, of the images.
        target: "true", or the class that the adapter predicts.
    """
    with torch.no_grad(), adapter.evaluating():
        probabilities, answers = adapter(batch).logits.softmax(dim=-1).max(dim=-1)
    wanted = batch.labels if target == "true" else answers
    asked = Batch(batch.images, wanted, batch.index, batch.masks)
    before, after = (class_map(one, asked).cpu() for one in (frozen(adapter), adapter))
    classes = adapter.class_names
    shown = [
        Overlay(
            name,
            classes[int(batch.labels[i])] if int(batch.labels[i]) >= 0 else "",
            classes[int(answers[i])],
            float(probabilities[i]),
            before[i],
            after[i],
            batch.images[i].cpu(),
        )
        for i, name in enumerate(names)
    ]
    return Overlays(target, tuple(shown))


def laid_over(picture: Tensor, cam: Tensor, colours: str = "cividis") -> Tensor:
    """½ · colour(map) + ½ · picture, (R, R, 3) in [0, 1]; the map is divided by its own maximum alone.

    Args:
        picture: (3, R, R) in [0, 1], square. cam: (G, G) ≥ 0.
        colours: a colour map of matplotlib.
    """
    from matplotlib import colormaps

    large = saliency(cam[None], picture.shape[-1])[0, 0]
    coloured = torch.as_tensor(colormaps[colours](large.numpy())[..., :3]).float()
    return (0.5 * coloured + 0.5 * picture.permute(1, 2, 0)).clamp(0, 1)
