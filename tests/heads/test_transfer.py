"""The head that stands beside another one."""

from __future__ import annotations

import pytest
import torch

from cliptune.clip.tokens import TokenBatch
from cliptune.heads import MeanHead, TransferHead
from cliptune.texts import TextBatch


@pytest.fixture
def texts():
    return TextBatch.one_each(TokenBatch.plain(torch.zeros(3, 4, dtype=torch.int64)))


@pytest.fixture(params=["paper", "released"])
def head(request):
    head = TransferHead(MeanHead(), 3, 4, 0.7, request.param)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head


def test_the_answer_is_the_formula(head, texts):
    similarity, embedding = torch.randn(2, 1, 3), torch.randn(2, 1, 4)
    head.requires_grad_(False)
    expected = torch.zeros(2, 3)
    for b in range(2):
        adjusted = [float(head.image.scale[d] * embedding[b, 0, d] + head.image.shift[d]) for d in range(4)]
        own = [
            sum(float(head.classifier.weight[c, d]) * adjusted[d] for d in range(4)) + float(head.classifier.bias[c])
            for c in range(3)
        ]
        if head.fusion == "released":
            expected[b] = torch.tensor([0.7 * own[c] + 0.3 * float(similarity[b, 0, c]) for c in range(3)])
        else:
            mixed = 0.7 * torch.tensor(own).softmax(0) + 0.3 * similarity[b, 0].softmax(0)
            expected[b] = mixed.log()
    torch.testing.assert_close(head(similarity, texts, embedding).detach(), expected, rtol=1e-4, atol=1e-5)


def test_an_unlikely_class_keeps_a_finite_logit(texts):
    head = TransferHead(MeanHead(), 3, 4)
    logits = head(torch.tensor([[[1e4, 0.0, -1e4]]]), texts, torch.full((1, 1, 4), 1e4))
    assert logits.isfinite().all()


def test_some_trained_classes_are_picked_and_new_ones_leave_the_host_alone(head, texts):
    embedding = torch.randn(2, 1, 4)
    own = head.of_images(embedding)
    chosen = head.for_classes(torch.zeros(1, 2, 4), (2, 0))
    assert torch.equal(chosen.of_images(embedding), own[:, [2, 0]])
    assert torch.equal(head.of_images(embedding), own)
    assert head.for_classes(torch.zeros(1, 2, 4), (2, -1)) is head.host


@pytest.mark.parametrize("weight", [0.0, 1.0, -1.0, float("nan")])
def test_a_weight_that_leaves_one_head_out_is_refused(weight):
    with pytest.raises(ValueError, match="dept_weight must be between 0 and 1"):
        TransferHead(MeanHead(), 3, 4, weight)


def test_an_unknown_fusion_is_refused():
    with pytest.raises(ValueError, match="dept_fusion must be one of paper, released"):
        TransferHead(MeanHead(), 3, 4, fusion="sum")
