from __future__ import annotations

import pytest
import torch

from cliptune import build
from cliptune.batch import Batch
from cliptune.clip.towers.layout import image_layout
from cliptune.exporting import Graph
from cliptune.exporting.program import program_of
from cliptune.registry.checks import trained
from tests.conftest import CLASS_NAMES

pytestmark = pytest.mark.filterwarnings("ignore:.*have no descriptions")


@pytest.fixture
def adapter_of(tiny_clip, images):
    def made(method: str, **options):
        recipe = build(method, tiny_clip, CLASS_NAMES, **options)
        return trained(recipe, Batch.of(images, torch.tensor([0, 3, 1])))[0]

    return made


def test_an_image_layout_names_cls_patches_and_prompts():
    layout = image_layout(3, 2)
    assert [layout.names[g] for g in layout.group] == ["cls", "patch", "patch", "patch", "prompt", "prompt"]
    assert image_layout(2, 0).group.tolist() == [0, 1, 1]


@pytest.mark.parametrize("method", ["maple", "vp", "dvp_cse", "tip_adapter", "cocoop", "promptkd", "coop+bias"])
def test_a_program_answers_any_number_of_bytes(adapter_of, method):
    adapter = adapter_of(method)
    graph = Graph(adapter)
    program = program_of(graph, "uint8").module()
    for number in (1, 2, 5):
        images = torch.randint(0, 256, (number, 3, graph.resolution, graph.resolution), dtype=torch.uint8)
        expected = adapter.logits(images).softmax(-1)
        torch.testing.assert_close(program(images), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(graph(images.float() / 255), expected, rtol=0, atol=1e-5)


def test_texts_are_folded_and_no_text_tower_is_kept(adapter_of):
    kept = {name for name, _ in Graph(adapter_of("coop")).named_parameters()}
    assert kept
    assert all(name.startswith("tower.") for name in kept)
    words = Graph(adapter_of("cocoop")).answer.tower.token_embedding.weight
    assert len(words) < 40  # of 49,408: those that occur


def test_texts_that_depend_on_the_image_lose_their_drift_in_the_graph_too(adapter_of, images):
    adapter = adapter_of("cocoop")
    before = adapter.logits(images)
    adapter.corrects_drift = True
    expected = adapter.logits(images)
    assert not torch.allclose(expected, before, atol=1e-3)
    torch.testing.assert_close(Graph(adapter)(images), expected.softmax(-1), rtol=0, atol=1e-5)


def test_half_precision_is_near_and_gives_float32(adapter_of, images):
    adapter = adapter_of("maple")
    graph = Graph(adapter, torch.float16)
    assert graph.tower.proj.dtype == torch.float16
    found = graph(images)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, adapter.logits(images).softmax(-1), rtol=0, atol=2e-2)


def test_the_adapter_stays_as_it_is(adapter_of, images):
    adapter = adapter_of("coop+dpc")
    adapter.train()
    before = {name: value.clone() for name, value in adapter.state_dict().items()}
    graph = Graph(adapter, torch.float16)
    assert adapter.training
    assert all(torch.equal(value, before[name]) for name, value in adapter.state_dict().items())
    assert all(p.requires_grad for p in adapter.trainable().values())
    assert not any(p.requires_grad for p in graph.parameters())


def test_classes_that_a_head_makes_gaussians_for(adapter_of, images):
    adapter = adapter_of("gda")
    adapter.set_classes(["lynx", "forest", "puma"])
    graph = Graph(adapter)
    torch.testing.assert_close(graph(images), adapter.logits(images).softmax(-1), rtol=0, atol=1e-5)


def test_a_graph_that_counts_its_images_is_a_sentence():
    class Counting(torch.nn.Module):
        resolution = 4

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.float() + torch.arange(2)[:, None, None, None]

    with pytest.raises(ValueError, match="cannot write this adapter as a program for any number of images"):
        program_of(Counting(), "uint8")  # type: ignore[arg-type]
