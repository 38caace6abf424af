"""`attention` of finished runs."""

from __future__ import annotations

import torch

from cliptune.explain import explain


def test_attention_of_both_towers_and_its_pictures(opened):
    answer = explain(opened("maple", images=6, depth=2), ["attention"])["attention"]
    found = answer.found
    assert found.image.groups == ("cls", "foreground", "background", "prompt")  # Tinyworld knows its objects
    assert found.image.n == 6
    assert list(answer.pictures) == ["image", "text", "reach"]
    torch.testing.assert_close(found.text.prompted.sum(-1), torch.ones_like(found.text.prompted[..., 0]))
    assert all(word in answer.sentence for word in ("the class token gives", "the end of text gives", "pixels far"))
    assert set(answer.to_json()["found"]) == {"image", "text", "reach"}


def test_masks_that_are_not_there_are_a_sentence(runs, tmp_path):
    answer = explain(runs("zeroshot"), ["attention"], images=6, masks=str(tmp_path / "none"))["attention"]
    assert "there is no folder" in answer.why_not
