"""A model card: what was learned on what, how good it is and how sure that is, and what to mind."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cliptune.reading import shown
from cliptune.registry import describe
from cliptune.registry.plugins import parts_of

_MOST_CLASSES = 200
# Where weights say under which licence they are.
_LICENCES = {
    "mini": "MIT, as cliptune, which made it",
    "openai": "MIT (OpenAI's CLIP)",
}


def card(config: Mapping[str, Any], result: Mapping[str, Any], repository: str | None, licence: str | None) -> str:
    """README.md of a shared run, with the header that the hub reads.

    Args:
        config: `adapter_config.json`. result: `result.json`. repository: its name on the hub, if it has one.
        licence: of what was learned; None to say none.
    """
    name = repository or f"organisation/{config['method'].replace('+', '-')}"
    parts = [
        _header(config, result, licence),
        f"# {config['method']} on {_plain(result['data']['name'])}",
        f"What a frozen CLIP ({_plain(config['backbone']['name'])}) learned by {_methods(config['method'])}: "
        f"{result.get('learnables', 0):,} values, made with "
        f"cliptune {config['cliptune']}. It holds no weight of the CLIP.",
        "## Use",
        f"```python\nimport cliptune\n\nadapter = cliptune.from_pretrained({json.dumps(name)})\n"
        "print(adapter.class_names, adapter.probabilities(adapter.logits([picture])))  # a PIL picture\n```",
        "## Numbers",
        _numbers(result),
        "## Data",
        _data(result),
        "## Classes",
        _classes(config),
        "## To mind",
        "\n".join(f"- {line}" for line in _to_mind(config, result, licence)),
    ]
    return "\n\n".join(parts) + "\n"


def interval(correct: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share in %, of n images."""
    z, p = 1.959964, correct / 100
    middle, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (100 * (middle + sign * spread) / (1 + z * z / n) for sign in (-1, 1))
    return max(0.0, low), min(100.0, high)


def _header(config: Mapping[str, Any], result: Mapping[str, Any], licence: str | None) -> str:
    lines = ["library_name: cliptune", "pipeline_tag: image-classification"]
    lines += [f"license: {json.dumps(licence)}"] if licence else []
    source = str(config["backbone"]["origin"].get("source"))
    if source.startswith("hf-hub:"):
        lines.append(f"base_model: {json.dumps(source.removeprefix('hf-hub:').partition('@')[0])}")
    lines += ["tags:", "- clip", "- few-shot", *(f"- {json.dumps(part)}" for part in parts_of(config["method"]))]
    return "\n".join(("---", *lines, "---"))


def _numbers(result: Mapping[str, Any]) -> str:
    rows = ["| images | accuracy (%) | 95 % interval | number |", "|---|---|---|---|"]
    for name, one in (result.get("evaluations") or {}).items():
        if one.get("accuracy") is not None and one.get("n"):
            low, high = interval(one["accuracy"], one["n"])
            rows.append(f"| {_plain(name)} | {one['accuracy']:.2f} | {low:.2f} to {high:.2f} | {one['n']:,} |")
    if len(rows) == 2:
        return "None were measured."
    return (
        "\n".join(rows) + "\n\nThe interval (Wilson's) is over images; another seed or split moves the number further."
    )


def _data(result: Mapping[str, Any]) -> str:
    data = result["data"]
    sampling = data.get("sampling") or {}
    shots = f", {sampling['shots']} images per class" if sampling.get("shots") else ""
    lines = [
        f"{_plain(data['name'])}, {data.get('classes', 'all')} classes: trained on {result.get('train_images', 0):,} "
        f"images{shots}, seed {result.get('seed')}.",
        *(f"- {what}: `{data[key]}`" for key, what in _HASHES.items() if data.get(key)),
    ]
    return "\n".join(lines)


_HASHES = {"split_sha256": "SHA-256 of the split", "images_sha256": "SHA-256 of `split.json`, the images of every part"}


def _classes(config: Mapping[str, Any]) -> str:
    names = config["classes"]["names"]
    more = f" … and {len(names) - _MOST_CLASSES:,} more in `adapter_config.json`" if len(names) > _MOST_CLASSES else ""
    return f"{len(names):,}: " + ", ".join(map(_plain, names[:_MOST_CLASSES])) + more + "."


def _to_mind(config: Mapping[str, Any], result: Mapping[str, Any], licence: str | None) -> list[str]:
    flags = result.get("flags") or {}
    told = [f"{name.replace('_', ' ')}: {json.dumps(value, ensure_ascii=False)}" for name, value in flags.items()]
    origin = config["backbone"]["origin"]
    source = str(origin.get("source"))
    of_backbone = _LICENCES.get(source) or (
        f"that of {source.removeprefix('hf-hub:')}, see there" if source.startswith("hf-hub:") else "not known here"
    )
    return [
        f"Licence of the backbone: {of_backbone}. Licence of what was learned: {licence or 'not stated'}.",
        f"The backbone's weights have SHA-256 `{origin['sha256']}`."
        if origin.get("sha256")
        else "No checksum of the backbone's weights is known.",
        "How it was made: " + _plain("; ".join(told) or "nothing is flagged") + ".",
        "A classifier always names one of its classes, whatever the picture shows, and CLIP carries the biases of the "
        "pictures and sentences of the web.",
    ]


def _methods(method: str) -> str:
    papers = [describe(part).paper for part in parts_of(method)]
    cited = ", ".join(f"arXiv:{paper}" for paper in papers if paper)
    return f"`{method}`" + (f" ({cited})" if cited else "")


def _plain(text: object) -> str:
    """A text from outside as words of Markdown: no markup, no path."""
    line = shown(str(text), 300)
    line = Path(line).name if line.startswith("/") else line
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#" else sign for sign in line)
