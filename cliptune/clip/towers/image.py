"""The ViT image tower, open at `tokens` and `bias`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from cliptune.clip.ports import EMPTY, KINDS, TowerPorts
from cliptune.clip.towers.blocks import Transformer, gaussian, normed, norms_of, projected, with_inserted
from cliptune.clip.towers.layout import bias_rows, image_layout


class ImageTower(nn.Module):
    """What CLIP asks of an image tower, whatever it is made of.

    Attributes:
        width: d. resolution: R. embed: D.
        open_at: the kinds of `TowerPorts` that it takes.
    """

    width: int
    resolution: int
    embed: int
    open_at: frozenset[str] = frozenset()

    @property
    def last_map(self) -> Tensor | None:
        """(d, D), from the row that is read out to the embedding; None where there is no such map."""
        return None


@runtime_checkable
class Patched(Protocol):
    """An image tower of patches and blocks that attend to them.

    Attributes:
        patches: G². prefix: rows in front of them: a class token, or none. resolution: R.
        watch: when set, is shown what the last attention looks at, (B V, T, d), and gives it back.
    """

    patches: int
    prefix: int
    resolution: int
    watch: Callable[[Tensor], Tensor] | None


class VisionTransformer(ImageTower):
    """ViT of CLIP (arXiv:2103.00020), in the layout of OpenAI's checkpoints.

    Args:
        resolution: R, side of the square input in pixels.
        patch: side of a patch in pixels; R is a multiple of it.
        width: d. layers: L. heads: per block. embed: D.
        activation: "quick_gelu" or "gelu".
        mlp: inner width of the MLPs; None for 4 d.

    `plain = True` computes every row of every block; the default skips rows that nobody reads (the CLS row alone in
    the last block; no prompt rows where the next block replaces them), which changes no output. `watch`, when set, is
    shown what the last attention looks at, (B V, T, d), and gives it back, so that a score can be differentiated there.
    `show`, when set, is shown the embeddings of class token and patches, (B V, 1 + G², D), and the share of its
    attention that the class token pays each patch in the last block, (B V, G²), the mean over heads.
    """

    def __init__(
        self,
        resolution: int,
        patch: int,
        width: int,
        layers: int,
        heads: int,
        embed: int,
        activation: str,
        mlp: int | None = None,
    ) -> None:
        super().__init__()
        self.resolution, self.patch, self.width, self.embed = resolution, patch, width, embed
        self.patches = (resolution // patch) ** 2
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        scale = width**-0.5
        self.class_embedding = gaussian(width, std=scale)
        self.positional_embedding = gaussian(self.patches + 1, width, std=scale)
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, layers, heads, activation, mlp)
        self.ln_post = nn.LayerNorm(width)
        self.proj = gaussian(width, embed, std=scale)
        self.plain = False
        self.watch: Callable[[Tensor], Tensor] | None = None
        self.show: Callable[[Tensor, Tensor], None] | None = None

    prefix = 1
    open_at = frozenset(KINDS)

    @property
    def layers(self) -> int:
        return len(self.transformer)

    @property
    def last_map(self) -> Tensor:
        return self.proj

    @property
    def norms(self) -> dict[tuple[int, str], nn.LayerNorm]:
        """(layer, site) → LayerNorm."""
        return norms_of(self, self.ln_pre, self.ln_post)

    def forward(self, views: Tensor, ports: TowerPorts = EMPTY) -> Tensor:
        """Encode views (B, V, 3, R, R), normalised → (B, V, D), not unit-norm; (B, 2 V, D) with a second read-out.

        Image tokens follow the patches: layer 0 before the first LayerNorm, without position; deeper layers replace
        the rows that the block before left. Inserted rows come behind them.
        """
        lead = views.shape[:2]
        check_views("VisionTransformer", views, self.resolution)
        ports.check("VisionTransformer", self.layers, self.width, self.embed)
        x = self.embed_patches(views.flatten(0, 1))
        real, moving = x.shape[1], None
        if 0 in ports.tokens:
            if not x.requires_grad and self.watch is None and not (ports.norms(0, "pre") or ports.norms(0, "attn")):
                moving = slice(real, None)  # in block 0 nothing learned has reached the picture's own rows
            x = torch.cat([x, self._rows(ports.tokens[0], lead)], dim=1)
        x, inserted = normed(self.ln_pre, x, ports.norms(0, "pre")), 0
        recording = any(block.attn.tap is not None for block in self.transformer.blocks)
        for i, block in enumerate(self.transformer.blocks):
            if i > 0 and i in ports.tokens:
                end = x[:, x.shape[1] - inserted :]
                x = torch.cat([x[:, :real], self._rows(ports.tokens[i], lead), end], dim=1)
            if i in ports.inserted:
                x = with_inserted(x, self._rows(ports.inserted[i], lead), x.shape[1] - inserted, inserted, ports.flow)
                inserted = ports.inserted[i].shape[-2]
            keep = x.shape[1]
            if not (self.plain or recording or inserted):
                last = 1 if self.show is None else real
                keep = last if i == self.layers - 1 else real if i + 1 in ports.tokens else keep
            layout = image_layout(self.patches, x.shape[1] - real, x.device)[:keep]
            biases = [
                None if b is None else self._rows(b, lead)
                for b in (bias_rows(ports, i, site, layout) for site in ("attn_out", "mlp_out"))
            ]
            h, deltas = normed(block.ln_1, x, ports.norms(i, "attn")), ports.deltas(i)
            if self.watch is not None and i == self.layers - 1:
                h = self.watch(h)
            if keep < x.shape[1]:
                asking = h[:, :keep] if moving is None or keep > real else h[:, :keep].detach()
                q, (k, v) = block.attn.query(asking, deltas), block.attn.key_value(h, deltas, moving)
            else:
                q, k, v = block.attn.qkv(h, deltas, moving)
            moving = None
            x = block.finish(x[:, :keep], block.attn.attend(q, k, v), *biases, moved=ports.norms(i, "mlp"))
        moved, projection = ports.norms(self.layers - 1, "post"), ports.projection
        if self.show is not None:
            attention = block.attn.weights(q[:, :1], k)[..., 0, 1:real].mean(dim=1)
            self.show(
                projected(normed(self.ln_post, x[:, :real], moved), self.proj, projection.get("first")), attention
            )
        embedding = projected(normed(self.ln_post, x[:, 0], moved), self.proj, projection.get("first"))
        if "second" not in projection:
            return embedding.view(*lead, -1)
        mean = normed(self.ln_post, x[:, x.shape[1] - inserted :], moved).mean(dim=1)
        other = mean @ projection["second"].to(mean.dtype)
        return torch.stack([embedding, other], dim=1).view(lead[0], -1, self.embed)

    def embed_patches(self, images: Tensor) -> Tensor:
        """(N, 3, R, R) → (N, 1 + G², d): class token and patches with their positions."""
        x = self.conv1(images.to(self.conv1.weight.dtype)).flatten(2).mT
        x = torch.cat([self.class_embedding.expand(x.shape[0], 1, -1), x], dim=1)
        return x + self.positional_embedding

    def _rows(self, value: Tensor, lead: torch.Size) -> Tensor:
        """(*lead, n, d), any leading sizes that broadcast to (B, V) → (B V, n, d) in the tower's dtype."""
        return value.to(self.proj.dtype).expand(*lead, *value.shape[-2:]).flatten(0, 1)


def check_views(who: str, views: Tensor, resolution: int) -> None:
    if views.ndim != 5 or views.shape[2:] != (3, resolution, resolution):
        raise ValueError(
            f"{who}: views must have shape (B, V, 3, {resolution}, {resolution}), got {tuple(views.shape)}. "
            f"Resize the images to {resolution} pixels, the resolution of this CLIP."
        )
