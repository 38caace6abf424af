"""ATPrompt against its release, and where its tokens stand."""

from __future__ import annotations

import pytest
import torch

from cliptune import methods
from cliptune.batch import Batch
from cliptune.clip.weights.openai import OPENAI_CONFIGS
from cliptune.registry.building import find
from tests.conftest import CLASS_NAMES
from tests.golden import weights
from tests.golden.reference import golden, reference_batch, reference_clip

RELEASED = golden("atprompt")[1]
NAMES = ("golden retriever", "forest", "Boeing 737-800", "red panda", "highway or road", "yawl", "lemon meringue pie")
# Host → its options and attributes; the names of its release's learnables, in the order in which they were drawn
# (trainers/coop_atp.py, cocoop_atp.py, maple_atp.py with clip/model_atp.py; three attributes are drawn always).
ATTRIBUTES = ["ctx_att1", "ctx_att2", "ctx_att3"]
CASES = {
    "coop": ({"words": ""}, ("color", "habitat", "growth"), ["ctx", *ATTRIBUTES]),
    "cocoop": (
        {"words": ""},
        ("luxury",),
        ["ctx", *ATTRIBUTES, *(f"meta_net.linear{i}.{kind}" for i in (1, 2) for kind in ("bias", "weight"))],
    ),
    "maple": (
        {"words": "", "depth": 3},
        ("shape", "size"),
        [
            *(f"compound_prompt_projections.{i}.{kind}" for i in (0, 1) for kind in ("bias", "weight")),
            *(f"compound_prompts_text.{i}" for i in (0, 1)),
            *("ctx", *ATTRIBUTES, "proj.bias", "proj.weight"),
        ],
    ),
}


def theirs(host: str, name: str) -> str:
    if name.startswith("prompt.attributes."):
        return f"ctx_att{int(name.split('.')[2]) + 1}"
    return find(host).published_name(name.replace("prompt.host.", "prompt.")).removeprefix("prompt_learner.")


@pytest.fixture(params=CASES)
def released(request):
    """Host, and its adapter with attributes on the reference CLIP, with the values that its release was given."""
    options, attributes, names = CASES[request.param]
    clip = reference_clip("vit_small")
    recipe = methods.build(f"{request.param}+atprompt", clip, NAMES, n_ctx=2, atprompt_attributes=attributes, **options)
    seeds = {name: 100 + i for i, name in enumerate(names)}
    std = lambda name: 0.02 if "ctx" in name or "compound_prompts_text" in name else 0.04
    values = {
        name: weights.draw(value.shape, std(theirs(request.param, name)), seeds[theirs(request.param, name)])
        for name, value in recipe.adapter.learnables().items()
    }
    recipe.adapter.load_learnables(values)
    return request.param, recipe


# The release rounds the image tokens that MaPLe's maps make to half precision.
TOLERANCE = {"coop": 1e-4, "cocoop": 1e-4, "maple": 2e-3}


def test_answers_and_gradients_are_the_releases(released):
    host, recipe = released
    adapter, stage, batch = recipe.adapter, recipe.stages[0], reference_batch()

    def near(actual, expected, key):
        assert (actual - expected).abs().max() <= TOLERANCE[host] * expected.abs().max(), key

    out = adapter(batch)
    near(out.logits, RELEASED[f"{host}/logits"], "logits")
    loss, _ = stage.objective(out, batch, 0.0)
    near(loss, RELEASED[f"{host}/loss"], "loss")
    loss.backward()
    compared = 0
    for name, parameter in adapter.trainable().items():
        expected = RELEASED.get(f"{host}/grad/{theirs(host, name)}")
        if expected is not None:
            near(parameter.grad, expected, name)
            compared += 1
    assert compared == {"coop": 4, "cocoop": 2, "maple": 5}[host]


def test_the_sentence_has_the_attributes_in_front_of_the_context(tiny_clip):
    attributes = ("color", "flavor", "red brick")
    adapter = methods.build(
        "coop+atprompt", tiny_clip, CLASS_NAMES, n_ctx=2, atprompt_tokens=3, atprompt_attributes=attributes
    ).adapter
    sentence = "X X X color X X X flavor X X X red brick a photo of a {}."
    expected = tiny_clip.tokenize([sentence.format(name) for name in CLASS_NAMES])
    assert torch.equal(adapter.texts.ids, expected.ids)
    # 0 is the start of the text; "red brick" is two tokens.
    assert adapter.texts.slots.tolist() == [[1, 2, 3, 5, 6, 7, 9, 10, 11, 14, 15]] * len(CLASS_NAMES)


def test_learned_words_that_equal_the_sentence_change_nothing(tiny_clip, images):
    """With the word embeddings of a sentence in all places, the prompt is that sentence."""
    adapter = methods.build("coop+atprompt", tiny_clip, CLASS_NAMES, atprompt_tokens=1).adapter
    lead = tiny_clip.tokenize(["X"])
    for matrix in adapter.prompt.attributes:
        matrix.value.data.copy_(tiny_clip.text.token_embedding(lead.ids[:, 1]))
    written = methods.build("zeroshot", tiny_clip, CLASS_NAMES, template="X color X shape a photo of a {}.").adapter
    torch.testing.assert_close(adapter.logits(images), written.logits(images), rtol=1e-4, atol=1e-4)


def test_the_image_moves_the_hosts_tokens_alone(tiny_clip, images):
    adapter = methods.build("cocoop+atprompt", tiny_clip, CLASS_NAMES, n_ctx=4).adapter
    ports = adapter.prompt()
    moved = ports.text_given(torch.randn(3, 1, 16)).tokens[0]
    assert moved.shape == (3, 1, 12, 24)
    assert torch.equal(moved[:, 0, :8], ports.text.tokens[0][:8].expand(3, -1, -1))
    assert not torch.allclose(moved[0, 0, 8:], moved[1, 0, 8:])


def test_deeper_tokens_are_the_hosts_alone(tiny_clip):
    ports = methods.build("maple+atprompt", tiny_clip, CLASS_NAMES, n_ctx=2).adapter.prompt()
    assert [ports.text.tokens[layer].shape[-2] for layer in range(3)] == [6, 2, 2]
    assert all(tokens.shape[-2] == 2 for tokens in ports.image.tokens.values())


def test_counts_follow_the_formula():
    count = lambda method, **options: methods.count_learnables(method, OPENAI_CONFIGS["ViT-B/16"], **options)
    assert count("coop+atprompt") == 3 * 4 * 512
    assert count("coop+atprompt", n_ctx=2, words="", atprompt_attributes=("a", "b", "c")) == 4 * 2 * 512
    assert count("coop+atprompt+rlp") == 3 * (4 + 512)
    assert count("maple+atprompt") == count("maple") + 2 * 2 * 512


@pytest.mark.parametrize("attributes", ["color", ("color",), ["color"]])
def test_one_attribute_may_be_written_alone(attributes, tiny_clip):
    adapter = methods.build("coop+atprompt", tiny_clip, CLASS_NAMES, atprompt_attributes=attributes).adapter
    assert adapter.phrasing.attributes == ("color",)


def test_attributes_of_each_class_work_with_class_specific_contexts(tiny_clip, images):
    recipe = methods.build("coop+atprompt", tiny_clip, CLASS_NAMES, class_specific=True)
    batch = Batch.of(images, torch.tensor([0, 1, 2]))
    recipe.stages[0].objective(recipe.adapter(batch), batch, 0.0)[0].backward()
    assert all(p.grad is not None for p in recipe.adapter.trainable().values())
    with pytest.raises(ValueError, match="cannot speak of other classes"):
        recipe.adapter.set_classes(("lynx", "puma"))


@pytest.mark.filterwarnings("ignore:.*have no descriptions")
@pytest.mark.parametrize(
    ("method", "options", "why"),
    [
        ("zeroshot+atprompt", {}, "learns no context words"),
        ("vpt+atprompt", {}, "learns no context words"),
        ("vp+atprompt", {}, "learns no context words"),
        ("coop+atprompt", {"position": "middle"}, "Use position='end'"),
        ("coop+atprompt", {"atprompt_attributes": ()}, "one word or more"),
        ("coop+atprompt", {"atprompt_attributes": ("color", " ")}, "one word or more"),
        ("coop+atprompt", {"atprompt_tokens": 0}, "at least 1 learned token"),
        ("coop+atprompt", {"atprompt_tokens": 40}, "leave no room"),
    ],
)
def test_what_cannot_be_is_a_sentence(method, options, why, tiny_clip):
    with pytest.raises(ValueError, match=why):
        methods.build(method, tiny_clip, CLASS_NAMES, **options)
