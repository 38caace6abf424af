"""ProKeR: kernel ridge regression on the training images, around the zero-shot answer.  (arXiv:2501.11175)"""

from __future__ import annotations

from dataclasses import dataclass

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import KernelHead
from cliptune.heads.kernel import Grid
from cliptune.prompts import NoPrompt
from cliptune.recipe import Recipe, Stage
from cliptune.texts import ClassSet, TemplatePhrasing, ensemble

PAPER = "2501.11175"
ENTERS = "nowhere; a kernel over image features in the head"
# Share of the area of random crops.
CROP = (0.5, 1.0)


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        beta: β > 0, sharpness of the kernel. ridge: λ > 0. None takes those that the release carries over from
            ImageNet (RN50, one view), by the number of images per class.
        search: look for both on the validation images, if there are any.
        beta_min, beta_max: ends of what is tried of β. betas: how many values.
        ridge_min, ridge_max: ends of what is tried of λ. ridges: how many values.
        views: augmented views of each training image, each a key of its own, as released with 10; 0 for the image
            itself, which is better where crops and flips change what an image means.
        templates: "" for the data set's own sentence, or an ensemble: "selected7", "promptsrc60", "imagenet80".
    """

    beta: float | None = None
    ridge: float | None = None
    search: bool = False
    beta_min: float = 0.5
    beta_max: float = 3.0
    betas: int = 20
    ridge_min: float = 0.001
    ridge_max: float = 1.0
    ridges: int = 10
    views: int = 0
    templates: str = ""


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    if config.views < 0:
        raise ValueError(f"proker: views must be at least 0 per training image, got {config.views}.")
    grid = Grid(config.beta_min, config.beta_max, config.betas, config.ridge_min, config.ridge_max, config.ridges)
    phrasing = TemplatePhrasing(ensemble(config.templates) if config.templates else ())
    head = KernelHead(
        len(classes), clip.image.embed, clip.scale, config.beta, config.ridge, grid if config.search else None
    )
    stage = Stage(
        None, epochs=1, batch_size=100, optimiser=None, name="fit the kernel",
        observe=("train", "val") if config.search else ("train",),
        augment=config.views > 0, observe_views=max(1, config.views), average_views=False, crop=CROP,
    )  # fmt: skip
    flags = {"validation_images": "chose β and λ, where there were any"} if config.search else {}
    return Recipe(Adapter(clip, classes, phrasing, NoPrompt(), head), [stage], flags=flags)
