import pytest
import torch

from cliptune.params import LowRank

START = torch.arange(12.0).reshape(3, 4)


def test_low_rank_matches_product():
    matrix = LowRank(START, rank=2)
    expected = START.clone()
    for i in range(3):
        for j in range(4):
            for r in range(2):
                expected[i, j] += matrix.left[i, r].item() * matrix.right[r, j].item()
    torch.testing.assert_close(matrix(), expected)
    assert matrix().dtype == torch.float32


def test_learnable_values_are_r_times_n_plus_d():
    for rank in (1, 2, 3):
        assert sum(p.numel() for p in LowRank(START, rank).parameters()) == rank * (3 + 4)
    per_class = LowRank(torch.zeros(5, 3, 4), rank=2)
    assert sum(p.numel() for p in per_class.parameters()) == 5 * 2 * (3 + 4)
    assert per_class().shape == (5, 3, 4)


def test_zero_start_is_exact_and_still_learns():
    matrix = LowRank(START, rank=2, factors="zero")
    assert torch.equal(matrix(), START)
    matrix().square().sum().backward()
    assert matrix.right.grad.abs().max() > 0


def test_merged_evaluation_equals_unmerged_and_has_no_dropout():
    matrix = LowRank(START, rank=2, dropout=0.5)
    assert not torch.equal(matrix(), matrix())
    matrix.eval()
    assert torch.equal(matrix(), matrix.merged())
    assert torch.equal(matrix(), START + matrix.left @ matrix.right)


def test_dropout_acts_on_the_product_with_inverse_scale():
    matrix = LowRank(START, rank=1, dropout=0.25)
    product = matrix.left @ matrix.right
    moved = matrix() - START
    kept = moved.abs() > 1e-6
    assert 0 < kept.sum() < kept.numel()
    torch.testing.assert_close(moved, torch.where(kept, product / 0.75, 0.0), rtol=1e-3, atol=1e-6)


def test_full_rank_can_represent_any_change():
    change = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(change, full_matrices=False)
    matrix = LowRank(START, rank=3)
    matrix.left.data, matrix.right.data = u * s, v
    torch.testing.assert_close(matrix(), START + change)


def test_the_change_has_at_most_the_rank():
    matrix = LowRank(START, rank=1)
    assert torch.linalg.matrix_rank(matrix().detach() - START, atol=1e-6) == 1


def test_restart_begins_at_the_given_matrix():
    matrix = LowRank(START, rank=2)
    matrix.restart(2 * START)
    assert torch.equal(matrix(), 2 * START)
    assert matrix.left.abs().max() > 0


def test_bad_numbers_are_explained():
    with pytest.raises(ValueError, match=r"between 1 and min\(n, d\) = 3, got 4"):
        LowRank(START, rank=4)
    with pytest.raises(ValueError, match="dropout must be in"):
        LowRank(START, dropout=1.0)
    with pytest.raises(ValueError, match="start at one of"):
        LowRank(START, factors="ones")
    with pytest.raises(ValueError, match="shared factor"):
        LowRank(START, rank=2, right=torch.nn.Parameter(torch.zeros(1, 4)))
    with pytest.raises(ValueError, match="a matrix"):
        LowRank(torch.zeros(4))


def test_the_nearest_product_is_the_truncated_decomposition():
    whole = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    for rank in (1, 2, 3):
        matrix = LowRank(torch.zeros(5, 3, 4), rank)
        matrix.approach(whole)
        for one, found in zip(whole, matrix(), strict=True):
            u, s, v = torch.linalg.svd(one)
            nearest = sum(s[i] * torch.outer(u[:, i], v[i]) for i in range(rank))
            torch.testing.assert_close(found, nearest)
        for r in range(rank):  # neither factor is larger than the other
            torch.testing.assert_close(matrix.left[..., r].norm(dim=-1), matrix.right[..., r, :].norm(dim=-1))
