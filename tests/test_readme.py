"""The README is kept true: its code, its commands and its links; and the table of methods on its page."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from cliptune.protocols.listing import MethodListing, list_methods

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def row(method: MethodListing) -> str:
    """The line of the methods table that stands for a method or add-on."""
    if method.learnables is None:
        count = "the host's"
    else:
        parts = [f"{method.learnables:,}"] if method.learnables or not method.per_class else []
        count = " + ".join([*parts, *([f"{method.per_class} per class"] if method.per_class else [])])
    summary = method.summary.split("  (")[0].rstrip(".")
    name = f"`+{method.name}`" if method.learnables is None else f"`{method.name}`"
    return f"| {name} | {summary} | {method.paper or '–'} | {method.enters} | {count} |"


def test_methods_table_lists_every_method():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        listed = [row(method) for method in list_methods()]
    page = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    section = page.split("## Every method")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("| `")]
    assert table == listed, "\n".join(["docs/methods.md should list:", *listed])


def test_python_block_runs(tmp_path, monkeypatch):
    """Word for word, but for a shorter training."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code.replace('"coop", clip, data.class_names', '"coop", clip, data.class_names, epochs=2'), {})
    assert (tmp_path / "runs/aquarium/adapter_model.safetensors").exists()


def test_commands_and_links_exist():
    import cliptune.cli.main as main

    known = set(main.app)
    used = set(re.findall(r"^ +(?:\S+bin/)?cliptune (\w+)", README, re.MULTILINE))
    assert used <= known, used - known
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
    for target in re.findall(r"(?:tests|benchmarks|examples|tools)/\w+\.py", README):
        assert (ROOT / target).exists(), target
