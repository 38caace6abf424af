"""Visual reprogramming against values that the released code computed: pixels, logits, loss, gradients, steps, PRM."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune import methods
from cliptune.batch import Batch
from cliptune.heads.prm import PRMHead, clusters
from cliptune.recipe import Recipe
from cliptune.texts import ClassSet, DescriptionPhrasing
from cliptune.training.optim import build_optimiser, set_rate
from cliptune.training.schedules import learning_rate
from tests.golden import reference
from tests.golden.reference import golden, reference_clip

META, TENSORS = golden("visual")
OPTIMISATION = {"lr": 40.0, "inner": 48}
DRAWN = {"replacement": "reference", "rng": "reference", "min_length": 20}
SIZE = 64


def near(actual: Tensor, key: str, tolerance: float = 1e-4) -> None:
    reference.assert_equals(actual, TENSORS, key, tolerance)


def batches(name: str) -> list[Batch]:
    source = "vp" if name == "vp" else "ar"
    images = [TENSORS[f"{source}/x{i}"] for i in (0, 1)]
    if name == "vp":
        mean, std = (torch.tensor(v)[:, None, None] for v in (reference.CLIP_MEAN, reference.CLIP_STD))
        images = [x * std + mean for x in images]
    return [Batch.of(x, TENSORS[f"{source}/y{i}"]) for i, x in enumerate(images)]


def class_set(name: str) -> ClassSet:
    """The released files, under the names that the sets have here."""
    files = META[name].get("description_json") or META[name].get("attribute_json") or {}
    sets = {}
    for path, entries in files.items():
        stem = path.split("/")[-1].removesuffix(".json")
        sets[{"dtd_des": "des", "dtd_dist": "dist"}.get(stem, stem.replace("dtd_cse_", "cause "))] = entries
    return ClassSet(tuple(META[name]["classes"]), descriptions=sets)


def full(recipe: Recipe, values: Tensor, pattern: int = 0) -> Tensor:
    """One pattern as the released code stores it, (3, R, R)."""
    return recipe.adapter.prompt.spread(values)[pattern]


def steps(recipe: Recipe, name: str, prefix: str = "", *, prompts: int = 1, epochs: int | None = None) -> None:
    """Follow the released training, comparing wherever a value was stored."""
    adapter, data = recipe.adapter, batches(name)
    last = recipe.stages[-1]
    optimiser = build_optimiser(last.optimiser, adapter.trainable())
    run = META[name]["runs"][prefix.rstrip(".")] if prefix else META[name]
    many = prompts > 1
    step = 0
    for epoch in range(last.epochs):
        for number, batch in enumerate(data):
            rate = learning_rate(last.optimiser, epoch, last.epochs, number, len(data))
            assert rate == pytest.approx(run["lr_per_step"][step])
            set_rate(optimiser, rate)
            out = adapter(batch)
            loss, _ = last.objective(out, batch, 0.0)
            optimiser.zero_grad()
            loss.backward()
            adapter.head.observe(out, batch.labels)
            tolerance = 1e-4 if step == 0 else 3e-4
            near(out.logits, f"{name}/{prefix}logits_step{step}", tolerance)
            near(loss, f"{name}/{prefix}loss_step{step}", tolerance)
            (program,) = (p for n, p in adapter.trainable().items() if n.startswith("prompt."))
            for i in range(prompts):
                start = f"{name}/{prefix}prompt{i}." if many else f"{name}/{prefix}"
                if known(f"{start}grad_step{step}"):
                    # Steps at rate 40 make later gradients differ by 20 times what other kernels round.
                    near(full(recipe, program.grad, i), f"{start}grad_step{step}", 1e-4 if step == 0 else 1e-3)
            optimiser.step()
            for i in range(prompts):
                start = f"{name}/{prefix}prompt{i}." if many else f"{name}/{prefix}"
                if known(f"{start}program_after_step{step}"):
                    near(full(recipe, program, i), f"{start}program_after_step{step}", 3e-4)
            step += 1
        adapter.head.refit()
        if isinstance(adapter.head, PRMHead):
            near_prm(adapter.head, f"{name}/prm_after_epoch{epoch + 1}")


def known(key: str) -> bool:
    return key in TENSORS or f"{key}#norm" in TENSORS


def dense(head: PRMHead) -> Tensor:
    """The matrix as released: (C M, C), block by block."""
    return torch.block_diag(*[row[:, None] for row in head.weight])


def near_prm(head: PRMHead, key: str) -> None:
    torch.testing.assert_close(dense(head), TENSORS[key])


@pytest.mark.parametrize("name", ["vp", "ar"])
def test_label_based_methods_equal_released_code(name):
    options = {"lr": 40.0, "epochs": 2} | ({"border": 8} if name == "vp" else {"inner": 48})
    recipe = methods.build(name, reference_clip("vit_small"), META[name]["classes"], **options)
    views = lambda batch: recipe.adapter.prompt().pixels(batch.images, batch)[:, 0]
    first, second = batches(name)
    if name == "ar":
        near(views(first), "ar/transformed_step0")
    steps(recipe, name)
    near(recipe.adapter(first).logits, f"{name}/logits_final_x0", 3e-4)
    # one step later than the start, so that the pattern is not zero
    again = methods.build(name, reference_clip("vit_small"), META[name]["classes"], **options)
    optimiser = build_optimiser(again.stages[0].optimiser, again.adapter.trainable())
    again.stages[0].objective(again.adapter(first), first, 0.0)[0].backward()
    optimiser.step()
    near(again.adapter.prompt().pixels(second.images, second)[:, 0], f"{name}/transformed_step1")


@pytest.mark.parametrize("run", ["A", "B", "C"])
def test_attrvr_equals_released_code(run):
    given = META["attrvr"]["runs"][run]
    recipe = methods.build(
        "attrvr", reference_clip("vit_small"), class_set("attrvr"), **OPTIMISATION, **DRAWN, m=5, epochs=1,
        nearest=given["k"], weight=given["alpha_lambda"], description_seed=given["seed"],
    )  # fmt: skip
    if run == "A":
        features = recipe.adapter.text_features()[0].view(7, 2, 5, -1)
        for i, name in enumerate(("des_emb", "dist_emb")):
            near(features[:, i].transpose(0, 1), f"attrvr/{name}")
        drawn = recipe.adapter.phrasing.sentences(recipe.adapter.classes)
        assert drawn["des"] + drawn["dist"] == given["texts"]
    steps(recipe, "attrvr", f"{run}.")
    near(recipe.adapter(batches("attrvr")[0]).logits, f"attrvr/{run}.logits_final_x0", 3e-4)


@pytest.mark.parametrize(("name", "prompts"), [("dvp_cse", 3), ("dvp_cls", 2)])
def test_dvp_equals_released_code(name, prompts):
    given = META[name]
    options = {"causes": ("cause 1", "cause 2", "cause 3")} if name == "dvp_cse" else {"clusters": prompts}
    recipe = methods.build(
        name, reference_clip("vit_small"), class_set(name), **OPTIMISATION, **DRAWN, **options, epochs=given["epochs"],
        m=given["m"], votes=given["k"], smoothing=0.0, description_seed=seed_of(name),
    )  # fmt: skip
    adapter, data = recipe.adapter, batches(name)
    assert recipe.stages[0].optimiser is None
    with torch.no_grad():
        for batch in data:
            adapter.head.observe(adapter(batch), batch.labels)
        near(own_scores(recipe, data[0]), f"{name}/fx_zero_prompt_x0")
    adapter.head.refit()
    near_prm(adapter.head, f"{name}/prm_after_epoch0")
    if name == "dvp_cls":
        assert torch.equal(F.one_hot(adapter.head.group).T, TENSORS["dvp_cls/masks"])
    steps(recipe, name, prompts=prompts)
    near(own_scores(recipe, data[0]), f"{name}/fx_final_x0", 3e-4)
    near(adapter(data[0]).logits, f"{name}/logits_final_x0", 3e-4)


def own_scores(recipe: Recipe, batch: Batch) -> Tensor:
    """(B, C M): every description scored by its own pattern."""
    out = recipe.adapter(batch)
    return recipe.adapter.head._scores(out.similarity, out.texts).flatten(1)


def seed_of(name: str) -> int:
    """The seed of the released run is not stored, but the sentences that it drew are."""
    stored = META[name]["texts"]
    sets = ("cause 1", "cause 2", "cause 3") if name == "dvp_cse" else ("des",)
    for seed in range(20):
        drawn = DescriptionPhrasing(sets, META[name]["m"], seed, replacement="reference", rng="reference").sentences(
            class_set(name)
        )
        if [texts for s in sets for texts in drawn[s]] == stored:
            return seed
    raise AssertionError(f"no seed draws the stored sentences of {name}")


@pytest.mark.parametrize(("case", "votes"), [("est_a", 3), ("est_b", 1), ("est_c", 5)])
def test_prm_equals_released_estimate(case, votes):
    from types import SimpleNamespace

    from tests.heads.test_descriptions import texts

    sim, labels = TENSORS[f"tools/{case}.sim"], TENSORS[f"tools/{case}.y"]
    head, batch = PRMHead(7, 5, votes), texts([c for c in range(7) for _ in range(5)])
    assert torch.equal(dense(head), TENSORS["tools/init_c7_m5"])
    head.observe(SimpleNamespace(similarity=sim[:, None], texts=batch), labels)
    head.refit()
    torch.testing.assert_close(dense(head), TENSORS[f"tools/{case}.prm"])
    torch.testing.assert_close(head(sim[:, None], batch, sim), TENSORS[f"tools/{case}.logits"])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_clusters_equal_released_ones(count):
    """Cluster by cluster; which is called first is k-means' affair."""
    masks = F.one_hot(clusters(TENSORS["tools/cluster.features"], count), count).T
    assert sorted(masks.tolist()) == sorted(TENSORS[f"tools/cluster.masks_k{count}"].tolist())
