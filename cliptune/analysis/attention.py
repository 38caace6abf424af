"""Where attention goes: to which tokens, how far, and how evenly, in every block and head, over a whole data set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.analysis.finding import Finding
from cliptune.analysis.frozen import frozen
from cliptune.analysis.groups import word_layout
from cliptune.analysis.taps import Attended, blocks_of, tapped
from cliptune.batch import Batch
from cliptune.clip.ports import Ports, called
from cliptune.clip.towers.image import VisionTransformer
from cliptune.clip.towers.layout import IMAGE_GROUPS

IMAGES_AT_ONCE = 8
"""Images whose attention weights exist at the same time: (8 · views · heads · T · T) numbers of one block."""


@dataclass(frozen=True)
class GroupAttention(Finding):
    """How a tower's query divides its attention among token groups, mean over a data set.  (arXiv:2312.11570, fig. 4)

    Args:
        tower: "image", whose query is CLS, or "text", whose query is the end of text.
        groups: G names; in the image tower with masks, "foreground" and "background" in the place of "patch".
        prompted: (L, heads, G) float64 in [0, 1], block by block and head by head; the groups add up to 1.
        frozen: the same of the frozen CLIP with the classes' own template; (L, heads, G).
        n: images, or texts.
    """

    tower: str
    groups: tuple[str, ...]
    prompted: Tensor
    frozen: Tensor
    n: int

    def mean(self, group: str) -> tuple[float, float]:
        """Mean over blocks and heads, with the prompt and without, in %."""
        at = self.groups.index(group)
        return 100 * float(self.prompted[..., at].mean()), 100 * float(self.frozen[..., at].mean())

    def sentence(self) -> str:
        query = {"image": "the class token", "text": "the end of text"}[self.tower]
        here, before = ({g: self.mean(g)[i] for g in self.groups} for i in (0, 1))
        said = f"In the {self.tower} tower, {query} gives {here['prompt']:.1f} % of its attention to the prompt"
        if here["prompt"] == 0:
            said = f"In the {self.tower} tower there is no prompt token to attend to"
        moved = max((g for g in self.groups if g != "prompt"), key=lambda g: abs(here[g] - before[g]))
        return (
            f"{said}; of the other tokens, the share of {moved!r} changes most, from {before[moved]:.1f} % in the "
            f"frozen CLIP to {here[moved]:.1f} % (mean over {self.prompted[..., 0].numel()} heads)."
        )


@dataclass(frozen=True)
class HeadReach:
    """How far the patches of an image tower look, and how evenly, in every block and head.

    Args:
        distance: (L, heads) mean over images and asking patches of Σ a ‖r_q − r_j‖ / Σ a over patches j, in pixels.
        distance_raw: the same without the division, so that other tokens count as distance 0.
        entropy: (L, heads) mean of −Σ ā log ā over class token and patches, with ā adding up to 1 over them, in nats.
        entropy_all: the same over all tokens, with the weights as they are.
    All are float64.
    """

    distance: Tensor
    distance_raw: Tensor
    entropy: Tensor
    entropy_all: Tensor


@dataclass(frozen=True)
class Reach(Finding):
    """Mean attention distance and entropy per head.  (arXiv:2312.11570, fig. 5)

    Args:
        frozen: of the frozen CLIP. prompted: of the adapter. n: images.

    The figure's curve "without prompts" is `distance` and `entropy` of `prompted`, its curve "with prompts" is
    `distance_raw` and `entropy_all`; what the paper does about columns that are left out it does not say. Each switch
    can be thrown by itself.
    """

    frozen: HeadReach
    prompted: HeadReach
    n: int

    def curves(self, name: str = "distance") -> dict[str, Tensor]:
        """The three curves of "distance" or "entropy", (L, heads) each."""
        raw = {"distance": "distance_raw", "entropy": "entropy_all"}[name]
        return {
            "frozen CLIP": getattr(self.frozen, name),
            "without prompt columns": getattr(self.prompted, name),
            "with prompt columns": getattr(self.prompted, raw),
        }

    def sentence(self) -> str:
        far, even = (
            [float(values.mean()) for values in self.curves(name).values()] for name in ("distance", "entropy")
        )
        return (
            f"A patch looks {far[0]:.0f} pixels far in the frozen CLIP, {far[1]:.0f} with the prompt in place and its "
            f"columns left out, {far[2]:.0f} with them; its entropy is {even[0]:.2f}, {even[1]:.2f} and {even[2]:.2f} "
            f"nats (mean over {self.frozen.distance.numel()} heads and {self.n} images)."
        )


@torch.no_grad()
def image_attention(
    adapter: Adapter, batches: Iterable[Batch], *, ask_cls: bool = False
) -> tuple[GroupAttention, Reach]:
    """Both statistics of the image tower in one pass over a data set, and one of the frozen CLIP beside it.

    Args:
        adapter: over a ViT.
        batches: of the data set; where they have masks and no pattern is on the pixels, patches are divided into
            foreground and background by the share of the patch that the mask covers.
        ask_cls: count the class token among those that look; it has no place, so that all is at distance 0 from it.
    Raises: ValueError if the image tower has no tokens, or there is no image.
    """
    tower = adapter.clip.image
    if not isinstance(tower, VisionTransformer):
        raise ValueError(
            f"attention: the image tower is a {called(tower)}, which has no tokens of CLIP's own. Ask about the text "
            "tower."
        )
    with adapter.evaluating():
        ports = adapter.prompt(seen=adapter.seen)
        pair = [_ImageSums(adapter, ports, ask_cls)]
        if not (ports.image.empty and ports.pixels is None):
            pair.append(_ImageSums(adapter, Ports(), ask_cls))
        for batch in batches:
            masked = batch.masks is not None and ports.pixels is None
            for part in pieces(batch):
                for sums in pair:
                    sums.see(part, masked)
    (prompted, reach), (bare, bare_reach) = pair[0].means(), pair[-1].means()
    groups = ("cls", "foreground", "background", "prompt") if prompted.shape[-1] == 4 else IMAGE_GROUPS
    n = pair[0].n
    return GroupAttention("image", groups, prompted, bare, n), Reach(bare_reach, reach, n)


def attention_by_group(adapter: Adapter, batches: Iterable[Batch], tower: str = "image") -> GroupAttention:
    """Query attention by token group, per block and head, mean over a data set.  (arXiv:2312.11570, fig. 4)

    Args:
        adapter: any, over a ViT for the image tower.
        batches: images, with masks or without; the text tower needs them only where the text depends on the image.
        tower: "image" or "text".
    Raises: ValueError if the tower has no tokens, or does not run.
    """
    return text_attention(adapter, batches) if tower == "text" else image_attention(adapter, batches)[0]


def attention_reach(adapter: Adapter, batches: Iterable[Batch], *, ask_cls: bool = False) -> Reach:
    """Mean attention distance and entropy per head.  (arXiv:2312.11570, fig. 5) As `image_attention`."""
    return image_attention(adapter, batches, ask_cls=ask_cls)[1]


@torch.no_grad()
def text_attention(adapter: Adapter, batches: Iterable[Batch] = ()) -> GroupAttention:
    """Attention of the end of text, mean over the classes' texts; where they depend on the image, over `batches` too.

    Groups are those of `word_layout`: learned tokens are "prompt", words of a template are "word".
    Raises: ValueError if another CLIP encoded the texts.
    """
    if adapter.known_texts is not None:
        raise ValueError("attention: this adapter has the texts of another CLIP, and no text tower of its own runs.")
    with adapter.evaluating():
        ports = adapter.prompt(seen=adapter.seen)
        if ports.condition is None:
            prompted, n = _text_means(adapter, [ports.text])
        else:
            prompted, n = _text_means(
                adapter,
                (
                    ports.text_given(F.normalize(image_embedding(adapter, part, ports), dim=-1))
                    for batch in batches
                    for part in pieces(batch)
                ),
            )
    bare = frozen(adapter)
    groups = word_layout(adapter).names[:-1]
    return GroupAttention("text", groups, prompted, _text_means(bare, [Ports().text])[0], n)


def pieces(batch: Batch, size: int = IMAGES_AT_ONCE) -> list[Batch]:
    """The batch in parts of at most `size` images, so that what is kept of a pass is bounded."""
    return [batch[start : start + size] for start in range(0, len(batch), size)]


def image_embedding(adapter: Adapter, batch: Batch, ports: Ports) -> Tensor:
    """What the image tower, and what is learned behind it, make of a batch under these ports, (B, V, D)."""
    embedding = adapter.clip.encode_image(adapter.views(batch, ports.pixels), ports.image)
    return embedding if ports.features is None else ports.features(embedding)


class _ImageSums:
    """Sums over the images that one adapter, or the frozen CLIP (no ports), has seen."""

    def __init__(self, adapter: Adapter, ports: Ports, ask_cls: bool) -> None:
        self.adapter, self.ports, self.n, self.count = adapter, ports, 0, 0
        self.first = 0 if ask_cls else 1
        self.masks: Tensor | None = None
        tower = adapter.clip.image
        assert isinstance(tower, VisionTransformer)
        self.patches, side = tower.patches, tower.resolution // tower.patch
        rows = torch.arange(tower.patches, device=adapter.clip.device)
        places = tower.patch * torch.stack([rows // side, rows % side], dim=-1).float()
        # The class token has no place.
        self.distances = F.pad(torch.cdist(places, places), (0, 0, 1 - self.first, 0))
        shape = (tower.layers, tower.transformer.blocks[0].attn.heads)
        self.groups: Tensor | None = None
        self.reach = torch.zeros(4, *shape, dtype=torch.float64, device=rows.device)
        self.shape = shape

    def see(self, batch: Batch, masked: bool) -> None:
        side = round(self.patches**0.5)
        self.masks = None
        if masked:
            assert batch.masks is not None
            self.masks = F.adaptive_avg_pool2d(batch.masks.float(), side).flatten(1)
        with tapped(self.adapter, "image", self._add):
            self.adapter.clip.encode_image(self.adapter.views(batch, self.ports.pixels), self.ports.image)
        self.n += len(batch)

    def _add(self, at: Attended) -> None:
        weights, end = at.weights.float(), 1 + self.patches
        if at.layer == 0:
            self.count += len(weights)
        cls, patch, prompt = weights[:, :, 0, :1], weights[:, :, 0, 1:end], weights[:, :, 0, end:]
        parts = [patch.sum(-1)]
        if self.masks is not None:
            front = (patch * self.masks[:, None]).sum(-1)
            parts = [front, parts[0] - front]
        found = torch.stack([cls[..., 0], *parts, prompt.sum(-1)], dim=-1).sum(dim=0, dtype=torch.float64)
        if self.groups is None:
            self.groups = found.new_zeros(*self.shape, found.shape[-1])
        self.groups[at.layer] += found
        self.reach[:, at.layer] += self._reach(weights[:, :, self.first : end], end)

    def _reach(self, rows: Tensor, end: int) -> Tensor:
        """Sums over images and mean over asking patches of the four statistics, (4, heads); rows (N, heads, Q, T)."""
        toward = rows[..., 1:end]
        far = torch.einsum("nhqs,qs->nhq", toward, self.distances)
        near = toward.sum(-1)
        real = near + rows[..., 0]
        chaos = torch.special.entr(rows)
        real_chaos = chaos[..., :end].sum(-1)
        # A query whose every weight underflows, or goes to the prompt, looks nowhere.
        tiny = torch.finfo(rows.dtype).tiny
        values = (
            far / near.clamp_min(tiny),
            far,
            real_chaos / real.clamp_min(tiny) + real.clamp_min(tiny).log(),
            real_chaos + chaos[..., end:].sum(-1),
        )
        return torch.stack([value.double().mean(dim=-1).sum(dim=0) for value in values])

    def means(self) -> tuple[Tensor, HeadReach]:
        if self.groups is None:
            raise ValueError("attention: there is no image to look at. Give batches of at least one image.")
        return (self.groups / self.count).cpu(), HeadReach(*(self.reach / self.count).cpu())


def _text_means(adapter: Adapter, ports: Iterable[object]) -> tuple[Tensor, int]:
    """(L, heads, G) mean over the texts under each of these text ports, and how many there were."""
    layout, rows = word_layout(adapter), adapter.clip.text.layout_of(adapter.texts).group.shape[-1]
    sums, count = torch.zeros(()), 0
    voting = adapter.texts.class_of >= 0

    def add(at: Attended) -> None:
        nonlocal sums
        n, inserted = len(at.weights), at.weights.shape[-1] - rows
        own = layout.widened(adapter.texts.head, inserted) if inserted else layout
        eot = (adapter.texts.eot + inserted).repeat(at.lead[0])
        asked = at.weights[torch.arange(n, device=eot.device), :, eot].float()  # (N, heads, T)
        group = F.one_hot(own.group, len(own.names)).float().repeat(at.lead[0], 1, 1)
        found = torch.einsum("nht,ntg->nhg", asked, group)[voting.repeat(at.lead[0])].sum(dim=0, dtype=torch.float64)
        if sums.ndim == 0:
            sums = found.new_zeros(len(blocks_of(adapter, "text")), *found.shape)
        sums[at.layer] += found

    with tapped(adapter, "text", add):
        for own in ports:
            encoded = adapter.clip.encode_text(adapter.texts, own)  # type: ignore[arg-type]
            count += len(encoded) * int(voting.sum())
    if not count:
        raise ValueError("attention: the texts depend on the image, and no image was given.")
    return (sums / count)[..., :-1].cpu(), count
