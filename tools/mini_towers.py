"""The towers of `mini` while they are trained: every weight learns, patches may be left out, keys are OpenAI's."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Sizes:
    """Sizes of `mini`; a head has 64 channels in both towers, as in every CLIP."""

    width: int = 128
    layers: int = 4
    patch: int = 8
    resolution: int = 64
    text_width: int = 128
    text_layers: int = 3
    context: int = 77
    embed: int = 128

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


class QuickGELU(nn.Module):
    """x σ(1.702 x), by way of the fused SiLU."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(1.702 * x) / 1.702


class Attention(nn.Module):
    """Self-attention with the parameter names of `nn.MultiheadAttention`."""

    def __init__(self, width: int):
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.heads = width // 64

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        n, t, d = x.shape
        q, k, v = (
            F.linear(x, self.in_proj_weight, self.in_proj_bias).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).reshape(n, t, d))


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.attn = Attention(width)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})
        self.ln_2 = nn.LayerNorm(width)
        self.act = QuickGELU()

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        x = x + self.attn(self.ln_1(x), causal)
        return x + self.mlp["c_proj"](self.act(self.mlp["c_fc"](self.ln_2(x))))


class Transformer(nn.Module):
    def __init__(self, width: int, layers: int):
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.width, self.layers = width, layers

    def initialise(self, generator: torch.Generator) -> None:
        """OpenAI's initial values."""
        attention, out = self.width**-0.5, self.width**-0.5 * (2 * self.layers) ** -0.5
        for block in self.resblocks:
            nn.init.normal_(block.attn.in_proj_weight, std=attention, generator=generator)
            nn.init.normal_(block.attn.out_proj.weight, std=out, generator=generator)
            nn.init.normal_(block.mlp["c_fc"].weight, std=(2 * self.width) ** -0.5, generator=generator)
            nn.init.normal_(block.mlp["c_proj"].weight, std=out, generator=generator)
            for linear in (block.attn.out_proj, block.mlp["c_fc"], block.mlp["c_proj"]):
                nn.init.zeros_(linear.bias)


class ImageTower(nn.Module):
    def __init__(self, sizes: Sizes, generator: torch.Generator):
        super().__init__()
        d, self.patch = sizes.width, sizes.patch
        cells = (sizes.resolution // sizes.patch) ** 2
        self.conv1 = nn.Conv2d(3, d, sizes.patch, sizes.patch, bias=False)
        nn.init.normal_(self.conv1.weight, std=(3 * sizes.patch**2) ** -0.5, generator=generator)
        scale = d**-0.5
        self.class_embedding = nn.Parameter(scale * torch.randn(d, generator=generator))
        self.positional_embedding = nn.Parameter(scale * torch.randn(cells + 1, d, generator=generator))
        self.ln_pre, self.ln_post = nn.LayerNorm(d), nn.LayerNorm(d)
        self.transformer = Transformer(d, sizes.layers)
        self.transformer.initialise(generator)
        self.proj = nn.Parameter(scale * torch.randn(d, sizes.embed, generator=generator))

    def forward(self, images: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """images (n, 3, h, w), normalised; keep (n, k) numbers of the patches that are looked at, all if None.

        Returns: embedding (n, D), patch tokens (n, k, d) half way and at the end (normalised).
        """
        patches = F.unfold(images, self.patch, stride=self.patch).mT  # (n, cells, 3 · patch²)
        position = self.positional_embedding[1:].expand(len(images), -1, -1)
        if keep is not None:
            patches = patches.gather(1, keep[:, :, None].expand(-1, -1, patches.shape[2]))
            position = self.positional_embedding[1:][keep]
        x = patches @ self.conv1.weight.flatten(1).T + position
        first = (self.class_embedding + self.positional_embedding[0]).expand(len(images), 1, -1)
        x = self.ln_pre(torch.cat([first, x], 1))
        middle = x
        for i, block in enumerate(self.transformer.resblocks):
            x = block(x)
            if i + 1 == self.transformer.layers // 2:
                middle = x[:, 1:]
        x = self.ln_post(x)
        return x[:, 0] @ self.proj, middle, x[:, 1:]


class TextTower(nn.Module):
    """Ids are numbers of the vocabulary's rows that occur (`rows`), not of the whole vocabulary."""

    def __init__(self, sizes: Sizes, rows: Tensor, generator: torch.Generator):
        super().__init__()
        d = sizes.text_width
        self.token_embedding = nn.Embedding.from_pretrained(rows.clone(), freeze=False)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(sizes.context, d, generator=generator))
        self.transformer = Transformer(d, sizes.text_layers)
        self.transformer.initialise(generator)
        self.ln_final = nn.LayerNorm(d)
        self.text_projection = nn.Parameter(d**-0.5 * torch.randn(d, sizes.embed, generator=generator))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, ids: Tensor, end: Tensor) -> Tensor:
        """ids (k, t), cropped to the longest text; end (k,) position of the end token. Returns (k, D)."""
        x = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        for block in self.transformer.resblocks:
            x = block(x, causal=True)
        return self.ln_final(x[torch.arange(len(x)), end]) @ self.text_projection
