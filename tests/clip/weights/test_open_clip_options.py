from __future__ import annotations

import re
from pathlib import Path

import pytest

import cliptune
from cliptune.clip.weights.open_clip_options import check_options, option_names

DOCS = Path(cliptune.__file__).parents[1] / "docs" / "backbones.md"
PARTS = {"image": "vision_cfg", "text": "text_cfg"}


@pytest.mark.parametrize(
    ("of", "option", "value"),
    [
        ("image", "ls_init_value", None),
        ("image", "final_ln_after_pool", True),
        ("image", "norm_kwargs", {"eps": 1e-5}),
        ("image", "block_type", "default"),
        ("image", "attn_pooler_queries", 256),
        ("image", "timm_pool", "avg"),
        ("text", "eos_id", 2),
        ("text", "pad_id", 1),
        ("text", "hf_tokenizer_name", "openai/clip-vit-base-patch32"),
        ("text", "tokenizer_kwargs", {"clean": "lower"}),
        ("text", "an_option_of_tomorrow", None),
    ],
)
def test_what_means_clips_own_way_passes(of, option, value):
    check_options({PARTS[of]: {option: value}}, Path("x.json"))


@pytest.mark.parametrize(
    ("of", "option", "value", "meaning"),
    [
        ("image", "ls_init_value", 0.0, "LayerScale"),
        ("image", "pool_type", "avg", "another pooling"),
        ("image", "norm_kwargs", {"eps": 1e-6}, "another LayerNorm"),
        ("image", "no_ln_pre", True, "no LayerNorm before the first block"),
        ("image", "pos_embed_type", "sin_cos_2d", "positions that are not learned"),
        ("image", "qk_norm", True, "another kind of block"),
        ("image", "block_type", "custom", "another kind of block"),
        ("image", "timm_model_name", "vit_base_patch16_siglip_224", "an image tower of timm"),
        ("text", "pool_type", "last", "another pooling"),
        ("text", "no_causal_mask", True, "no causal mask"),
        ("text", "act_kwargs", {"approximate": "tanh"}, "another form of the activation"),
        ("text", "proj_type", "none", "another projection"),
        ("text", "proj_bias", True, "a projection with bias"),
        ("text", "hf_tokenizer_name", "bert-base-uncased", "another tokenizer"),
        ("text", "tokenizer_kwargs", {"clean": "canonicalize"}, "another way of cleaning texts"),
        ("text", "hf_model_name", "roberta-base", "a language model as text tower"),
        ("text", "an_option_of_tomorrow", 0, "no option of open_clip 3.3.0"),
    ],
)
def test_what_tensors_cannot_tell_is_refused_by_name(of, option, value, meaning):
    with pytest.raises(ValueError, match=rf"the {of} tower has {option} = .*\({meaning}|which is {meaning}"):
        check_options({PARTS[of]: {option: value}}, Path("x.json"))


def test_a_decoder_of_captions_is_refused():
    with pytest.raises(ValueError, match="the model has multimodal_cfg = .* as CoCa has"):
        check_options({"embed_dim": 4, "multimodal_cfg": {"width": 4}}, Path("x.json"))


def test_the_table_in_the_docs_names_every_option():
    page = DOCS.read_text(encoding="utf-8")
    table = page[page.index("Options of open_clip's configurations") : page.index("## How pictures are prepared")]
    written = set(re.findall(r"`(\w+)`", table))
    missing = {option for options in option_names().values() for option in options} - written
    assert not missing
