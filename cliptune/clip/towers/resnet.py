"""CLIP's modified ResNet image tower; open at `pixels`, `features` and `projection` only."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliptune.clip.ports import EMPTY, TowerPorts
from cliptune.clip.towers.blocks import gaussian
from cliptune.clip.towers.image import ImageTower, check_views


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions; a stride is an average pool after the 3×3 and before the shortcut's 1×1."""

    expansion = 4

    def __init__(self, channels: int, planes: int, stride: int) -> None:
        super().__init__()
        out = planes * self.expansion
        self.conv1 = nn.Conv2d(channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(planes, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample: nn.Module | None = None
        if stride > 1 or channels != out:
            self.downsample = nn.Sequential(
                OrderedDict(
                    [
                        ("-1", nn.AvgPool2d(stride) if stride > 1 else nn.Identity()),
                        ("0", nn.Conv2d(channels, out, 1, bias=False)),
                        ("1", nn.BatchNorm2d(out)),
                    ]
                )
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.pool(F.relu(self.bn2(self.conv2(x))))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class AttentionPool(nn.Module):
    """One attention with the mean of the cells as the only query."""

    def __init__(self, side: int, width: int, heads: int, embed: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = gaussian(side**2 + 1, width, std=width**-0.5)
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, embed)

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """(N, d, h, w) → (N, D). Args: added: to the last map, (d, D)."""
        cells = x.flatten(2).mT
        tokens = torch.cat([cells.mean(dim=1, keepdim=True), cells], dim=1) + self.positional_embedding
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for y in (self.q_proj(tokens[:, :1]), self.k_proj(tokens), self.v_proj(tokens))
        )
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)[:, 0]
        pooled: Tensor = self.c_proj(attended)
        return pooled if added is None else pooled + attended @ added.to(attended.dtype)


class ModifiedResNet(ImageTower):
    """ResNet of CLIP (arXiv:2103.00020): three-convolution stem, average-pool strides, attention pool.

    Args:
        resolution: R in pixels, a multiple of 32.
        width: channels after the stem (64 for RN50).
        blocks: bottlenecks of the four stages.
        heads: of the attention pool. embed: D.
    """

    def __init__(self, resolution: int, width: int, blocks: tuple[int, ...], heads: int, embed: int) -> None:
        super().__init__()
        self.resolution, self.width, self.embed = resolution, width, embed
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        channels = width
        for stage, count in enumerate(blocks, start=1):
            planes = width * 2 ** (stage - 1)
            layers = []
            for j in range(count):
                layers.append(Bottleneck(channels, planes, stride=2 if stage > 1 and j == 0 else 1))
                channels = planes * Bottleneck.expansion
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.stages = len(blocks)
        self.attnpool = AttentionPool(resolution // 32, channels, heads, embed)

    open_at = frozenset({"projection"})

    @property
    def last_map(self) -> Tensor:
        return self.attnpool.c_proj.weight.T

    def forward(self, views: Tensor, ports: TowerPorts = EMPTY) -> Tensor:
        """Encode views (B, V, 3, R, R), normalised → (B, V, D), not unit-norm.

        Raises: ValueError if image tokens or biases are given: this tower has no place for them.
        """
        if ports.kinds - self.open_at:
            raise ValueError(
                "ModifiedResNet: this image tower takes no prompt tokens and no biases, and some were given. "
                "Use a ViT backbone for this method, or a method that prompts the text or the pixels only."
            )
        ports.check("ModifiedResNet", 0, len(self.last_map), self.embed)
        check_views("ModifiedResNet", views, self.resolution)
        x = views.flatten(0, 1).to(self.conv1.weight.dtype)
        for i in (1, 2, 3):
            conv, norm = getattr(self, f"conv{i}"), getattr(self, f"bn{i}")
            x = F.relu(norm(conv(x)))
        x = F.avg_pool2d(x, 2)
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        pooled: Tensor = self.attnpool(x, ports.projection.get("first"))
        return pooled.view(*views.shape[:2], -1)
