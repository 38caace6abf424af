"""Training steps and test batches of released code: CoOp, CoCoOp, VPT, IVLP, MaPLe and PromptSRC.

    git clone https://github.com/muzairkhattak/PromptSRC FOLDER
    git -C FOLDER checkout bb95c77b634d63488f2cad81ff4a72d53bdd06d5
    git clone https://github.com/muzairkhattak/multimodal-prompt-learning MAPLE
    git -C MAPLE show 69bce21ae8eda80ad6187534b2dce09cf6c59e17:trainers/vpt.py > FOLDER/trainers/vpt.py
    python benchmarks/step_floor.py maple vpt --test --beside "python benchmarks/released.py --release FOLDER"

    python benchmarks/released.py --release FOLDER [--classes 50] [--batch 4] [--layers 12]

The last line answers as `turns.py` says: a method's name with the seconds of a training step, and so on. Nothing of the
release is in this repository. FOLDER is a checkout of PromptSRC's repository, whose CLIP and trainers serve all six
methods; VPT's trainer is missing there and is MaPLe's (its repository, MAPLE above). What they import is needed: torch,
torchvision, ftfy, regex, tqdm. Dassl is not: the names that the trainers take from it are made here.

A step is the trainer's own `forward_backward`, a test batch its model in evaluation mode without gradients, of as many
random images. Options are those of the releases' configurations (IVLP's of MaPLe's repository), which are also the
defaults here: CoOp and CoCoOp four words, VPT eight tokens in all blocks, IVLP two in all blocks of both towers, MaPLe
two in nine blocks, PromptSRC four in nine blocks of both. What differs from a user's run of the release:

- one thread of a processor and float32 in place of a card and float16: `.half()` and `.cuda()` change nothing;
- ViT-B/16 with the release's own random start in place of OpenAI's weights, and --layers blocks in each tower;
- a step ends with SGD without momentum, where Dassl's has some. Ours has no such end; it is thousandths of a step;
- PromptSRC's frozen texts are of one sentence in place of 60. They are made before the first step.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from turns import BATCHES, MEMORY, STEP, TEST, answer_lines, peak_gib, processor_seconds

SIDE = 224
PLACES = ("clip", "trainers", "dassl")
"""Packages of the release, and the one that is made for it."""


@dataclass(frozen=True)
class Released:
    """Where a method's trainer is, and its options.

    Args:
        module: file in `trainers/`. trainer: class in it. section: of the configuration that the trainer reads.
        options: of that section; depths are cut to the number of blocks.
    """

    module: str
    trainer: str
    section: str
    options: dict[str, Any]

    def settings(self, layers: int) -> SimpleNamespace:
        """The part of Dassl's configuration tree that the trainer reads."""
        own = {name: min(value, layers) if "DEPTH" in name else value for name, value in self.options.items()}
        return SimpleNamespace(
            MODEL=SimpleNamespace(BACKBONE=SimpleNamespace(NAME="ViT-B/16"), INIT_WEIGHTS=""),
            INPUT=SimpleNamespace(SIZE=(SIDE, SIDE)),
            OPTIM=SimpleNamespace(LR=2e-3, MAX_EPOCH=20),
            TRAINER=SimpleNamespace(**{self.section: SimpleNamespace(PREC="fp32", CTX_INIT="a photo of a", **own)}),
        )


def both(tokens: int, depth: int) -> dict[str, int]:
    """Options of prompts of their own in each tower."""
    return {
        "N_CTX_VISION": tokens,
        "N_CTX_TEXT": tokens,
        "PROMPT_DEPTH_VISION": depth,
        "PROMPT_DEPTH_TEXT": depth,
    }


RELEASED = {
    "coop": Released("coop", "CoOp", "COOP", {"N_CTX": 4, "CSC": False, "CLASS_TOKEN_POSITION": "end"}),
    "cocoop": Released("cocoop", "CoCoOp", "COCOOP", {"N_CTX": 4}),
    "vpt": Released("vpt", "VPT", "VPT", {"N_CTX_VISION": 8, "PROMPT_DEPTH_VISION": 12}),
    "ivlp": Released("independentVL", "IVLP", "IVLP", both(2, 12)),
    "maple": Released("maple", "MaPLe", "MAPLE", {"N_CTX": 2, "PROMPT_DEPTH": 9}),
    "promptsrc": Released(
        "promptsrc",
        "PromptSRC",
        "PROMPTSRC",
        {**both(4, 9), "TEXT_LOSS_WEIGHT": 25, "IMAGE_LOSS_WEIGHT": 10, "GPA_MEAN": 15, "GPA_STD": 1},
    ),
}
NEEDED = ("clip/clip.py", "clip/model.py", *(f"trainers/{one.module}.py" for one in RELEASED.values()))
ADDED = "trainers/vpt.py"


class Trainer:
    """What the released trainers have from Dassl's class: a model that is built once, and steps.

    Args:
        settings: the configuration. names: of the classes.
    """

    def __init__(self, settings: SimpleNamespace, names: Sequence[str]) -> None:
        self.cfg, self.device = settings, torch.device("cpu")
        self.dm = SimpleNamespace(dataset=SimpleNamespace(classnames=names))
        self.batch_idx, self.num_batches = 0, 2  # no step is an epoch's last, after which prompts are averaged
        self.build_model()

    def register_model(self, *_: object) -> None:
        """Dassl saves what is registered; here nothing is saved."""

    def model_backward_and_update(self, loss: Tensor) -> None:
        self.optim.zero_grad()
        loss.backward()
        self.optim.step()

    def test(self, batch: dict[str, Tensor]) -> Tensor:
        """Logits of a batch. The model has to be in evaluation mode."""
        with torch.no_grad():
            return self.model(batch["img"])


def sgd(model: nn.Module, settings: SimpleNamespace) -> torch.optim.Optimizer:
    return torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=settings.LR)


def accuracy(logits: Tensor, labels: Tensor) -> list[Tensor]:
    """Of the first answer, in %."""
    return [100 * (logits.argmax(dim=1) == labels).float().mean()]


def nothing(*_: object) -> None:
    """For names that the trainers import and do not need here."""


def dassl() -> dict[str, ModuleType]:
    """Modules with the names that the trainers import from Dassl."""
    registry = SimpleNamespace(register=lambda: lambda trainer: trainer)
    contents = {
        "dassl": {},
        "dassl.engine": {"TRAINER_REGISTRY": registry, "TrainerX": Trainer},
        "dassl.metrics": {"compute_accuracy": accuracy},
        "dassl.optim": {"build_optimizer": sgd, "build_lr_scheduler": nothing},
        "dassl.utils": {"load_pretrained_weights": nothing, "load_checkpoint": nothing},
    }
    modules = {name: ModuleType(name) for name in contents}
    for name, module in modules.items():
        vars(module).update(contents[name])
    return modules


def itself(one: Any, *_: object, **__: object) -> Any:
    return one


def forget_modules() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in PLACES]:
        del sys.modules[name]


@contextmanager
def stand_ins(folder: Path, layers: int) -> Iterator[None]:
    """Inside the block the release can be imported and used, in float32 and with random weights.

    Its loaders build a CLIP of the shapes of the downloaded one and copy weights into it. Here the shapes are of a CLIP
    without memory, and nothing is copied, so that the random start stays and memory holds no weights twice.
    """
    with ExitStack() as stack:
        forget_modules()
        stack.callback(forget_modules)
        sys.modules.update(dassl())
        stack.enter_context(patch.object(sys, "path", [str(folder), *sys.path]))
        for kind in (Tensor, nn.Module):
            for name in ("half", "cuda"):
                stack.enter_context(patch.object(kind, name, itself))
        loader, model = imported("clip.clip"), imported("clip.model")
        plain = {"vision_depth": 0, "language_depth": 0, "vision_ctx": 0, "language_ctx": 0}
        with torch.device("meta"):
            shapes = model.CLIP(512, SIDE, layers, 768, 16, 77, 49408, 512, 8, layers, {"trainer": "CoOp", **plain})
        stack.enter_context(patch.object(loader, "_download", itself))
        stack.enter_context(patch.object(torch.jit, "load", lambda *_, **__: shapes))
        stack.enter_context(patch.object(model.CLIP, "load_state_dict", nothing))
        yield


def imported(name: str) -> ModuleType:
    """A module of the release."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SystemExit(
            f"released: {name} of the release cannot be imported: {error}. If the name is that of a package, install "
            "it; else --release is not the commit that stands at the top of benchmarks/released.py."
        ) from None


class Release:
    """Steps and test batches of released trainers, inside `stand_ins`.

    Args:
        names: of the classes. batch: images at a time, unless the method's paper fixes them. layers: of each tower.
    """

    def __init__(self, names: Sequence[str], batch: int, layers: int) -> None:
        self.names, self.batch, self.layers = names, batch, layers

    @cache  # noqa: B019 - one object per process
    def prepared(self, method: str) -> tuple[Trainer, dict[str, Tensor]]:
        """A trainer and a batch for it."""
        if method not in RELEASED:
            raise SystemExit(f"released: the release has {', '.join(RELEASED)}, and no {method!r}. Ask for those.")
        released = RELEASED[method]
        module = imported(f"trainers.{released.module}")
        if method == "promptsrc":
            del module.IMAGENET_TEMPLATES[1:]
        trainer = getattr(module, released.trainer)(released.settings(self.layers), self.names)
        size = BATCHES.get(method, self.batch)
        labels = torch.arange(size) % len(self.names)
        return trainer, {"img": torch.rand(size, 3, SIDE, SIDE), "label": labels}

    def measure(self, method: str, what: str) -> float:
        """What `turns.py` lets one ask. A method's variants, named behind a colon, are all one here."""
        if what not in (STEP, TEST, MEMORY):
            raise SystemExit(f"released: it answers for {STEP}, {TEST} and {MEMORY}, and was asked for {what!r}.")
        trainer, batch = self.prepared(method.partition(":")[0])
        if what == MEMORY:
            return peak_gib()
        trainer.model.train(what == STEP)
        return processor_seconds(partial(trainer.forward_backward if what == STEP else trainer.test, batch))


def check(folder: Path) -> None:
    """Raises: SystemExit, a sentence, where the folder does not hold the release."""
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing == [ADDED]:
        raise SystemExit(
            f"released: {folder} has no {ADDED}, which comes from MaPLe's repository. The command that adds it stands "
            "at the top of benchmarks/released.py."
        )
    if missing:
        raise SystemExit(
            f"released: --release must be a checkout of PromptSRC's repository, and {folder} has no "
            f"{', '.join(missing)}. The commands that make one stand at the top of benchmarks/released.py."
        )


def main() -> int:
    parser = argparse.ArgumentParser(description="Steps and test batches of released code, for step_floor.py --beside.")
    parser.add_argument("--release", type=Path, required=True, help="checkout of PromptSRC's repository, with vpt.py")
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--layers", type=int, default=12)
    asked = parser.parse_args()
    check(asked.release)
    from torchvision.models import ResNet50_Weights

    torch.set_num_threads(1)
    torch.manual_seed(0)
    names = ResNet50_Weights.IMAGENET1K_V1.meta["categories"][: asked.classes]
    with stand_ins(asked.release.resolve(), asked.layers):
        answer_lines(Release(names, asked.batch, asked.layers).measure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
