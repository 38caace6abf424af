"""Released checkpoints of visual reprogramming, nested and with a NumPy array, in and out."""

from __future__ import annotations

import pytest
import torch

from cliptune import interop, methods
from cliptune.batch import Batch
from cliptune.texts import ClassSet
from tests.conftest import CLASS_NAMES

LABELS = torch.tensor([0, 3, 1])


def classes() -> ClassSet:
    sets = ("des", "dist", "cause 1", "cause 2", "cause 3")
    sentences = {
        s: {c: [f"Sentence number {i} on {s} of the {c}." for i in range(7)] for c in CLASS_NAMES} for s in sets
    }
    return ClassSet(CLASS_NAMES, descriptions=sentences)


DRAWN = {"replacement": "reference", "rng": "reference", "min_length": 20, "description_seed": 4}
OPTIONS = {
    "vp": {"border": 5},
    "ar": {"inner": 25},
    "attrvr": {"inner": 24, "m": 20, **DRAWN},
    "dvp_cse": {"inner": 24, "m": 3, **DRAWN},
    "dvp_cls": {"inner": 24, "m": 6, "clusters": 2, **DRAWN},
}


def learned(method, clip, images):
    recipe = methods.build(method, clip, classes(), **OPTIONS[method])
    torch.nn.init.normal_(recipe.adapter.prompt.program.value)
    recipe.adapter.head.observe(recipe.adapter(Batch.of(images)), LABELS)
    recipe.adapter.head.refit()
    return recipe.adapter


def as_released(tensors: dict) -> dict:
    """Nested, with the matrix as an array, as the releases write it."""
    parts: dict = {}
    for key, value in tensors.items():
        if key.startswith("visual_prompt_dict."):
            *number, name = key.removeprefix("visual_prompt_dict.").split(".")
            parts.setdefault(int(number[0]) if number else None, {})[name] = value
    nested = parts[None] if None in parts else [parts[i] for i in sorted(parts)]
    more = {"prob": tensors["prob"].numpy()} if "prob" in tensors else {}
    more |= {"cluster_into": tensors["cluster_into"]} if "cluster_into" in tensors else {}
    return {"visual_prompt_dict": nested, **more, "epoch": 3, "best_acc": 0.5}


@pytest.mark.parametrize("method", OPTIONS)
def test_a_released_file_gives_the_same_answers(method, tiny_clip, images, tmp_path):
    adapter = learned(method, tiny_clip, images)
    torch.save(as_released(interop.to_published(method, adapter)), tmp_path / "best.pth")
    read = interop.read_published(tmp_path / "best.pth")
    given = {"description_seed": 4} if method not in ("vp", "ar") else {}
    again = interop.from_published(method, read, tiny_clip, classes(), **given)
    assert {k: again.config[k] for k in OPTIONS[method]} == OPTIONS[method]
    assert torch.equal(again.adapter.logits(images), adapter.logits(images))
    ours = adapter.learnables()
    assert all(torch.equal(value, ours[name]) for name, value in again.adapter.learnables().items())


def test_patterns_and_matrix_have_the_released_shapes(tiny_clip, images):
    out = interop.to_published("dvp_cls", learned("dvp_cls", tiny_clip, images))
    assert out["visual_prompt_dict.1.program"].shape == out["visual_prompt_dict.1.mask"].shape == (3, 32, 32)
    assert out["visual_prompt_dict.0.program"][:, 4:28, 4:28].abs().max() == 0
    assert out["prob"].shape == (30, 5)
    torch.testing.assert_close(out["prob"].sum(dim=0), torch.ones(5))
    assert out["cluster_into"].shape == (2, 30)
    assert torch.equal(out["cluster_into"].sum(dim=0), torch.ones(30, dtype=torch.int64))


def test_other_checkpoints_are_explained(tiny_clip, tiny_resnet, images):
    out = interop.to_published("dvp_cse", learned("dvp_cse", tiny_clip, images))
    with pytest.raises(ValueError, match="does not hold its sentences.*description_seed"):
        interop.from_published("dvp_cse", out, tiny_clip, classes())
    with pytest.raises(ValueError, match="does not hold its sentences"):
        interop.from_published("dvp_cse", out, tiny_clip, CLASS_NAMES, description_seed=4)
    few = ClassSet(CLASS_NAMES[:2], descriptions=classes().descriptions)
    with pytest.raises(ValueError, match="is for 5 classes, got 2 names"):
        interop.from_published("dvp_cse", out, tiny_clip, few, description_seed=4)
    with pytest.raises(ValueError, match="Give the backbone"):
        interop.from_published("dvp_cse", out, tiny_resnet, classes(), description_seed=4)
    with pytest.raises(ValueError, match="'prob' is missing"):
        interop.from_published(
            "dvp_cse", {k: v for k, v in out.items() if k != "prob"}, tiny_clip, classes(), description_seed=4
        )
    with pytest.raises(ValueError, match="'program' is missing"):
        interop.from_published("ar", {"ctx": torch.zeros(2)}, tiny_clip, CLASS_NAMES)
    with pytest.raises(ValueError, match="ar has one pattern, got 3"):
        interop.from_published("ar", out, tiny_clip, CLASS_NAMES)
    with pytest.raises(ValueError, match="not that of these options"):
        interop.from_published("dvp_cse", out, tiny_clip, classes(), description_seed=4, inner=20)
    with pytest.raises(ValueError, match="no pattern on the pixels"):
        interop.to_published("ar", methods.build("coop", tiny_clip, CLASS_NAMES).adapter)
    with pytest.raises(ValueError, match="not clustered yet"):
        interop.to_published("dvp_cls", methods.build("dvp_cls", tiny_clip, classes()).adapter)
