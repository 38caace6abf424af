"""The table of hosts and add-ons, cell by cell: what is accepted learns, what is refused says why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from itertools import permutations
from random import Random

import pytest
import torch

from cliptune import methods
from cliptune.batch import Batch
from cliptune.prompts.refiner import LocalCache
from cliptune.recipe import Recipe, Stage
from cliptune.registry.building import find
from cliptune.registry.combinations import SIZES, Cell
from cliptune.wrappers.dapt import use_masks
from tests.conftest import random_clip

# Three and four add-ons at once on some hosts only, one of each kind.
STACKED = ("bias_tuning", "coop", "cocoop", "maple", "ivlp")
CELLS = [*methods.compatibility(together=2), *methods.compatibility(together=4, hosts=STACKED, least=3)]
NAMES = [f"class {i}" for i in range(10)]
IMAGES = torch.rand(20, 3, 32, 32, generator=torch.Generator().manual_seed(5))
LABELS = torch.arange(20) % 10
pytestmark = pytest.mark.filterwarnings("ignore:.*have no descriptions")


@pytest.fixture(scope="module")
def clip():
    return random_clip(SIZES)


class Pool:
    """All twenty images."""

    def __init__(self, side: int) -> None:
        self.images = torch.nn.functional.interpolate(IMAGES, (side, side))
        self.labels, self.random = LABELS, Random(2)

    def __call__(self, positions):
        index = torch.tensor(positions)
        return Batch(self.images[index], self.labels[index], index)

    def embedding(self, batch):
        return None


def stages_of(recipe: Recipe) -> Iterator[tuple[Stage, Batch]]:
    """Each stage that learns by gradient, begun, with a batch of its own."""
    pool = Pool(recipe.adapter.resolution)
    for stage in recipe.stages:
        for begin in stage.before:
            begin(recipe.adapter)
        batch = pool([0, 3, 11, 7])
        if stage.optimiser is None:
            recipe.adapter.eval()
            recipe.adapter.head.observe(recipe.adapter(batch), batch.labels)
            recipe.adapter.head.refit()
            continue
        recipe.adapter.train()
        yield stage, batch if stage.sampler is None else stage.sampler(recipe.adapter, batch, pool)


def step(recipe: Recipe, stage: Stage, batch: Batch, length: float) -> float:
    """The loss, and a step of that length down its gradient."""
    torch.manual_seed(1)  # the same dropout at every step, so that losses can be compared
    learning = [p for p in recipe.adapter.parameters() if p.requires_grad]
    loss, _ = stage.objective(recipe.adapter(batch, needs=stage.objective.needs), batch, 0.0)
    if length:
        grads = torch.autograd.grad(loss, learning, allow_unused=True)
        norm = torch.stack([g.norm() for g in grads if g is not None]).norm()
        with torch.no_grad():
            for p, g in zip(learning, grads, strict=True):
                if g is not None:
                    p.sub_(length * g / norm)
    return loss.item()


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.method)
def test_what_is_accepted_learns_and_what_is_refused_says_why(cell: Cell, clip):
    if not cell.accepted:
        with pytest.raises(ValueError) as caught:
            methods.build(cell.method, clip, NAMES)
        assert str(caught.value) == cell.note
        assert cell.note.endswith(".")
        assert ": " in cell.note
        return
    recipe = methods.build(cell.method, clip, NAMES)
    if "dapt" in cell.add_ons:
        # Grad-CAM's masks jump when a pixel crosses the threshold, and losses could not be compared.
        half = (torch.arange(32) < 16).float().expand(4, 1, 32, 32)
        use_masks(recipe.adapter, lambda *given: half)
    for part in recipe.adapter.prompt.modules():
        if isinstance(part, LocalCache):
            part.momentum = 1.0  # a cache that moves between two losses does not let them be compared
    for stage, batch in stages_of(recipe):
        losses = [step(recipe, stage, batch, length) for length in (2e-3, 2e-3, 0)]
        assert losses[2] < losses[0], stage.name
    assert recipe.adapter.logits(IMAGES[:2]).isfinite().all()


def test_any_order_of_add_ons_has_one_meaning(clip):
    expected = None
    for order in permutations(("rlp", "dpc", "bias")):
        recipe = methods.build("+".join(("ivlp", *order)), clip, NAMES, seed=4)
        assert recipe.method == "ivlp+bias+rlp+dpc"
        learnables = recipe.adapter.learnables()
        expected = expected or learnables
        assert learnables.keys() == expected.keys()
        assert all(torch.equal(value, expected[name]) for name, value in learnables.items())


def test_the_table_says_what_the_papers_say():
    marks = {cell.method: cell.mark for cell in methods.compatibility()}
    for works in ("coop+rlp", "coop+dpc", "zeroshot+bias", "coop+bias", "ivlp+dpc", "bias_tuning+dpc"):
        assert marks[works] == "✓", works
    for restricted in ("maple+dpc", "cocoop+dpc", "cocoop+rlp", "vpt+rlp", "vpt+bias", "maple+bias"):
        assert marks[restricted] == "(✓)", restricted
    for meaningless in ("zeroshot+rlp", "zeroshot+dpc", "linear_probe+bias", "bias_tuning+bias", "vp+dpc"):
        assert marks[meaningless] == "✗", meaningless


@pytest.mark.parametrize("name", methods.add_ons())
def test_add_ons_are_listed_like_methods(name):
    info = methods.describe(name)
    assert info.wrapper
    assert info.summary.endswith(f"(arXiv:{info.paper})")
    assert info.enters
    assert all(option.startswith(f"{name}_") for option in info.options)


def test_no_add_on_shares_an_option_with_a_host_or_another_add_on():
    """Options are given by name alone, so one name must mean one thing."""
    options = {name: {f.name for f in fields(find(name).Config)} for name in (*methods.names(), *methods.add_ons())}
    for add_on in methods.add_ons():
        for other, theirs in options.items():
            assert other == add_on or not options[add_on] & theirs, (add_on, other)
