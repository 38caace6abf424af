"""Small CLIPs written in the formats and layouts that `load_clip` reads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cliptune.clip import CLIP
from cliptune.clip.model import openai_key

HEAD_WIDTH = 8
# What must be said of a lone file, for no tensor tells it.
SAID: dict[str, Any] = {"head_width": HEAD_WIDTH, "activation": "quick_gelu"}


def openai_tensors(clip: CLIP) -> dict[str, Tensor]:
    return {openai_key(name): value.clone() for name, value in clip.state_dict().items()}


def hugging_face_tensors(clip: CLIP) -> dict[str, Tensor]:
    """The names and shapes of transformers' CLIPModel, written out one by one."""
    ours, theirs = openai_tensors(clip), {}
    for tower, prefix, blocks in (
        ("text_model", "", clip.text.layers),
        ("vision_model", "visual.", clip.image.layers),
    ):
        for i in range(blocks):
            block = {
                name.removeprefix(f"{prefix}transformer.resblocks.{i}."): value
                for name, value in ours.items()
                if name.startswith(f"{prefix}transformer.resblocks.{i}.")
            }
            new = f"{tower}.encoder.layers.{i}"
            for kind in ("weight", "bias"):
                q, k, v = block[f"attn.in_proj_{kind}"].chunk(3)
                theirs[f"{new}.self_attn.q_proj.{kind}"] = q.clone()
                theirs[f"{new}.self_attn.k_proj.{kind}"] = k.clone()
                theirs[f"{new}.self_attn.v_proj.{kind}"] = v.clone()
                theirs[f"{new}.self_attn.out_proj.{kind}"] = block[f"attn.out_proj.{kind}"]
                theirs[f"{new}.layer_norm1.{kind}"] = block[f"ln_1.{kind}"]
                theirs[f"{new}.layer_norm2.{kind}"] = block[f"ln_2.{kind}"]
                theirs[f"{new}.mlp.fc1.{kind}"] = block[f"mlp.c_fc.{kind}"]
                theirs[f"{new}.mlp.fc2.{kind}"] = block[f"mlp.c_proj.{kind}"]
    for kind in ("weight", "bias"):
        theirs[f"text_model.final_layer_norm.{kind}"] = ours[f"ln_final.{kind}"]
        theirs[f"vision_model.pre_layrnorm.{kind}"] = ours[f"visual.ln_pre.{kind}"]
        theirs[f"vision_model.post_layernorm.{kind}"] = ours[f"visual.ln_post.{kind}"]
    theirs["text_model.embeddings.token_embedding.weight"] = ours["token_embedding.weight"]
    theirs["text_model.embeddings.position_embedding.weight"] = ours["positional_embedding"]
    theirs["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    theirs["vision_model.embeddings.class_embedding"] = ours["visual.class_embedding"]
    theirs["vision_model.embeddings.patch_embedding.weight"] = ours["visual.conv1.weight"]
    theirs["vision_model.embeddings.position_embedding.weight"] = ours["visual.positional_embedding"]
    theirs["text_projection.weight"] = ours["text_projection"].T.contiguous()
    theirs["visual_projection.weight"] = ours["visual.proj"].T.contiguous()
    theirs["logit_scale"] = ours["logit_scale"]
    return theirs


class Tree(nn.Module):
    """Modules nested as the dots in the names say; parameters and buffers at the leaves."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        inner: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            head, _, rest = name.partition(".")
            if rest:
                inner.setdefault(head, {})[rest] = value
            elif value.is_floating_point() and "running" not in name:
                self.register_parameter(name, nn.Parameter(value, requires_grad=False))
            else:
                self.register_buffer(name, value)
        for name, rest_of in inner.items():
            self.add_module(name, Tree(rest_of))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)  # as the program of OpenAI's archives


def save_torchscript(tensors: dict[str, Tensor], path: Path, trace: bool = False) -> Path:
    """As OpenAI published CLIP: half precision, sizes as extra tensors, program and data in one zip."""
    halves = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    sizes = {"input_resolution": 32, "context_length": 77, "vocab_size": 49408}
    tree = Tree(halves | {name: torch.tensor(value) for name, value in sizes.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; OpenAI's files stay in it
        program = torch.jit.trace(tree, torch.ones(2)) if trace else torch.jit.script(tree)
        torch.jit.save(program, str(path))
    return path


def same_weights(clip: CLIP, tensors: dict[str, Tensor]) -> bool:
    """Whether the CLIP holds exactly these tensors (OpenAI's names), cast to float32."""
    found = openai_tensors(clip)
    return found.keys() == tensors.keys() and all(
        torch.equal(found[name], value.float() if value.is_floating_point() else value)
        for name, value in tensors.items()
    )
