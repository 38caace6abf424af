"""`mini`: the shipped file, its vocabulary rows, its errors."""

import pytest
import torch
from safetensors.torch import save_file

from cliptune.clip.weights.load import load_clip
from cliptune.clip.weights.mini import WEIGHTS, initial_rows, mini_metadata, mini_state_dict, pack


def _tiny():
    return {"token_embedding.weight": torch.randn(3, 4), "logit_scale": torch.tensor(3.0), "ln.weight": torch.ones(5)}


def test_rows_of_unknown_words_are_made_anew_and_trained_ones_are_kept(tmp_path):
    tensors, ids = _tiny(), torch.tensor([2, 40_000, 49_407])
    save_file(pack(tensors, ids), tmp_path / "m.safetensors", metadata={"vocabulary_seed": "5"})
    got = mini_state_dict(tmp_path / "m.safetensors")
    table = got.pop("token_embedding.weight")
    assert table.shape == (49408, 4)
    assert torch.equal(table[ids], tensors["token_embedding.weight"].half().float())
    others = torch.ones(49408, dtype=torch.bool)
    others[ids] = False
    assert torch.equal(table[others], initial_rows(4, 5)[others])
    assert got["ln.weight"].dtype == torch.float32
    assert set(got) == {"logit_scale", "ln.weight"}


def test_initial_rows_are_the_same_everywhere_and_differ_from_each_other():
    rows = initial_rows(128, 1)
    assert rows.std().item() == pytest.approx(0.05, rel=1e-2)
    assert rows.abs().max() <= 0.05 * 3**0.5
    assert len(rows[:500].unique(dim=0)) == 500
    steps = (rows[0, :4].double() / (0.05 * 12**0.5 / 2**16) - 0.5 + 2**15).round().long()
    assert steps.tolist() == [62501, 33003, 12172, 5192]


def test_shipped_weights_are_small_and_load_as_a_clip():
    assert WEIGHTS.stat().st_size <= 12e6
    clip = load_clip("mini")
    assert clip.config.resolution == 64
    assert clip.config.patch == 8
    assert clip.config.vocab == 49408
    assert 1 < clip.scale <= 100
    assert mini_metadata()["data"] == "Tinyworld"


def test_mini_knows_a_star_from_a_heart():
    from cliptune.data.tinyworld import images_of, load_suite

    suite = load_suite("objects", train=0, val=0, test=4)
    clip = load_clip("mini")
    texts = clip.encode_text(clip.tokenize([suite.template.format(name) for name in suite.class_names]))[0]
    images = clip.encode_image(clip.normalise(images_of(suite.test, range(len(suite.test))))[:, None])[:, 0]
    similarity = torch.nn.functional.normalize(images, dim=1) @ torch.nn.functional.normalize(texts, dim=1).T
    assert (similarity.argmax(1) == suite.test.labels).float().mean() > 0.8


def test_wrong_files_are_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="pretrain_mini"):
        mini_state_dict(tmp_path / "none.safetensors")
    save_file(_tiny(), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="not a file of mini"):
        mini_state_dict(tmp_path / "other.safetensors")
