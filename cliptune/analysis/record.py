"""Recording attention weights for as long as a `with` block lasts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.analysis.taps import Attended, tapped
from cliptune.clip.towers.layout import TokenLayout


@dataclass(frozen=True)
class AttentionMap:
    """Attention weights of one block.

    Args:
        weights: (*lead, heads, Q, S), lead (B, V) for images and (I, K) for texts; float32, detached.
        queries, keys: group names of the rows Q and the columns S.
    """

    weights: Tensor
    queries: TokenLayout
    keys: TokenLayout

    def query(self, name: str) -> AttentionMap:
        """Only the query rows of a token group, such as "cls" or "eot"."""
        weights, layout = _select(self.weights, self.queries, name, dim=-2)
        return AttentionMap(weights, layout, self.keys)

    def key(self, name: str) -> AttentionMap:
        """Only the key columns of a token group, such as "prompt" or "patch"."""
        weights, layout = _select(self.weights, self.keys, name, dim=-1)
        return AttentionMap(weights, self.queries, layout)

    def mass(self, name: str) -> Tensor:
        """Attention that each query gives to a token group of keys: (*lead, heads, Q), in [0, 1].

        Works where the texts have different numbers of tokens in the group, too.
        """
        mask = self.keys.mask(name).to(self.weights.dtype)
        return (self.weights * mask[..., None, None, :]).sum(dim=-1)


@dataclass
class Recording:
    """What was recorded: `attention["image", 11]` is the map of the last forward through that block."""

    attention: dict[tuple[str, int], AttentionMap] = field(default_factory=dict)


@contextmanager
def record(adapter: Adapter, image: Sequence[int] = (), text: Sequence[int] = ()) -> Iterator[Recording]:
    """Record the attention of some blocks.

    Args:
        adapter: any.
        image, text: block numbers of each tower.

    Inside the block the text runs on its plain path, which computes every row; outputs are equal up to rounding.
    When the block ends, with an error or without, nothing is left behind.
    Raises: ValueError for a block that the tower does not have, or a tower without blocks.
    """
    recording = Recording()

    def keep(tower: str, at: Attended) -> None:
        weights = at.weights.detach().float().unflatten(0, at.lead)
        recording.attention[tower, at.layer] = AttentionMap(weights, at.layout, at.layout)

    with ExitStack() as stack:
        for tower, layers in (("image", image), ("text", text)):
            if layers:
                stack.enter_context(tapped(adapter, tower, partial(keep, tower), layers))
        yield recording


def _select(weights: Tensor, layout: TokenLayout, name: str, dim: int) -> tuple[Tensor, TokenLayout]:
    """Rows or columns of a group; the group may stand at other positions in each text, but must have one size."""
    mask = layout.mask(name)
    counts = mask.sum(dim=-1)
    n = int(counts.max())
    if int(counts.min()) != n:
        raise ValueError(
            f"AttentionMap: the texts have between {int(counts.min())} and {n} tokens of group {name!r}, so they do "
            "not stack. Use `mass`, which sums over the group."
        )
    at = mask.nonzero()[:, -1].reshape(*mask.shape[:-1], n)
    group = layout.group.gather(-1, at)
    index = at[..., None, :, None] if dim == -2 else at[..., None, None, :]
    shape = list(weights.shape)
    shape[dim] = n
    return weights.gather(dim, index.expand(shape)), TokenLayout(layout.names, group)
