"""The one frozen CLIP, open at ports."""

from cliptune.clip.model import CLIP, CLIPConfig
from cliptune.clip.ports import EMPTY, Ports, TowerPorts, compose, mix
from cliptune.clip.tokens import TokenBatch

__all__ = ["CLIP", "CLIPConfig", "EMPTY", "Ports", "TokenBatch", "TowerPorts", "compose", "mix"]
