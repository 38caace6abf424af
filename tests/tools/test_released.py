"""What stands in for Dassl and for OpenAI's weights, held against a release that is made up here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import released

NAMES = ("cat", "dog", "tree")
CLIP = """
import torch
from torch import nn

class CLIP(nn.Module):
    def __init__(self, *sizes_and_design):
        super().__init__()
        self.visual = nn.Linear(3, 8)

def build_model(weights, design):
    assert weights["visual.weight"].shape == (8, 3)
    model = CLIP(design)
    model.half()
    model.load_state_dict(weights)
    return model.eval()
"""
LOADER = """
from .model import build_model
_MODELS = {"ViT-B/16": "https://example.org/clip.pt"}

def _download(url):
    raise AssertionError("the network was asked")
"""
TRAINER = """
import torch
from torch import nn
from clip import clip
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint, load_pretrained_weights

class Model(nn.Module):
    def __init__(self, frozen, classes):
        super().__init__()
        self.frozen = frozen.visual.requires_grad_(False)
        self.words = nn.Parameter(torch.zeros(8, classes))

    def forward(self, images):
        return self.frozen(images.cuda().half().mean(dim=(2, 3))) @ self.words

@TRAINER_REGISTRY.register()
class CoOp(TrainerX):
    def build_model(self):
        print("building")
        own = self.cfg.TRAINER.COOP
        assert (own.N_CTX, own.PREC, self.cfg.INPUT.SIZE) == (4, "fp32", (224, 224))
        model = torch.jit.load(clip._download(clip._MODELS[self.cfg.MODEL.BACKBONE.NAME]), map_location="cpu").eval()
        self.model = Model(clip.build_model(model.state_dict(), {}), len(self.dm.dataset.classnames))
        self.model.to(self.device)
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.register_model("words", self.model, self.optim, build_lr_scheduler(self.optim, self.cfg.OPTIM))

    def forward_backward(self, batch):
        assert self.model.training
        logits = self.model(batch["img"])
        self.model_backward_and_update(nn.functional.cross_entropy(logits, batch["label"]))
        return {"acc": compute_accuracy(logits, batch["label"])[0].item()}
"""


@pytest.fixture
def folder(tmp_path):
    contents = dict.fromkeys(released.NEEDED, "")
    contents |= {"clip/clip.py": LOADER, "clip/model.py": CLIP, "trainers/coop.py": TRAINER}
    for name, text in {**contents, "clip/__init__.py": "", "trainers/__init__.py": ""}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_trainer_takes_steps_in_float32_with_its_random_start(folder):
    with released.stand_ins(folder, layers=1):
        release = released.Release(NAMES, batch=4, layers=1)
        trainer, batch = release.prepared("coop")
        start = trainer.model.frozen.weight.clone()
        assert batch["img"].shape == (4, 3, 224, 224)
        assert batch["label"].tolist() == [0, 1, 2, 0]
        assert release.measure("coop:again", "step") >= 0
        assert trainer.model.words.abs().sum() > 0
        assert torch.equal(trainer.model.frozen.weight, start)
        assert trainer.model.frozen.weight.dtype == torch.float32


def test_a_test_batch_is_in_evaluation_mode_without_gradients(folder):
    with released.stand_ins(folder, layers=1):
        release = released.Release(NAMES, batch=2, layers=1)
        trainer, batch = release.prepared("coop")
        release.measure("coop", "test")
        assert not trainer.model.training
        assert not trainer.test(batch).requires_grad
        assert release.measure("coop", "memory") > 0


def test_nothing_stays_behind(folder):
    half, path, load = torch.Tensor.half, list(sys.path), torch.jit.load
    with released.stand_ins(folder, layers=1):
        assert "dassl.engine" in sys.modules
        assert torch.zeros(1).half().dtype == torch.float32
    assert torch.zeros(1).half().dtype == torch.float16
    assert (torch.Tensor.half, sys.path, torch.jit.load) == (half, path, load)
    assert not {"dassl", "dassl.engine", "clip.model"} & set(sys.modules)


def test_accuracy_is_in_per_cent():
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0], [5.0, 4.0]])
    assert released.accuracy(logits, torch.tensor([0, 1, 1, 0]))[0].item() == 75.0


def test_depths_end_with_the_tower():
    own = released.RELEASED["promptsrc"].settings(layers=3).TRAINER.PROMPTSRC
    assert (own.PROMPT_DEPTH_VISION, own.PROMPT_DEPTH_TEXT, own.N_CTX_TEXT) == (3, 3, 4)
    assert released.RELEASED["promptsrc"].settings(layers=12).TRAINER.PROMPTSRC.PROMPT_DEPTH_TEXT == 9


def test_what_the_release_lacks_is_told_in_a_sentence(folder):
    with released.stand_ins(folder, layers=1):
        release = released.Release(NAMES, batch=2, layers=1)
        with pytest.raises(SystemExit, match="the release has coop, cocoop, .* and no 'dvp_cse'"):
            release.measure("dvp_cse", "step")
        with pytest.raises(SystemExit, match="was asked for 'texts'"):
            release.measure("coop", "texts")
        (folder / "trainers/maple.py").write_text("import no_such_package")
        with pytest.raises(SystemExit, match=r"trainers.maple of the release .* No module named 'no_such_package'"):
            release.measure("maple", "step")


def test_a_wrong_folder_is_told_in_a_sentence(folder, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["released.py", "--release", str(folder)])
    (folder / "trainers/vpt.py").unlink()
    with pytest.raises(SystemExit, match=r"has no trainers/vpt.py, which comes from MaPLe's repository"):
        released.main()
    (folder / "clip/model.py").unlink()
    with pytest.raises(SystemExit, match=r"must be a checkout of PromptSRC's repository, and .* has no clip/model.py"):
        released.main()
