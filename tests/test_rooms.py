"""Imports only go up: which room may import which."""

from __future__ import annotations

import ast
from pathlib import Path

import cliptune

ROOT = Path(cliptune.__file__).parent
BOTTOM = {"batch", "files", "reading", "version"}
# Each room with the rooms it may import besides itself and the bottom.
ALLOWED = {
    "clip": set(),
    "params": set(),
    "objectives": set(),
    "data": set(),
    "texts": {"clip"},
    "prompts": {"clip", "params"},
    "heads": {"texts", "clip"},
    "images": {"data"},
    "recipe": {"adapter"},
    "adapter": {"clip", "texts", "prompts", "heads", "images"},
    "wrappers": {"adapter", "recipe", "clip", "texts", "params", "prompts", "heads", "objectives"},
    "methods": {"adapter", "recipe", "clip", "data", "texts", "params", "prompts", "heads", "objectives", "wrappers"},
    "interop": {"adapter", "recipe", "clip", "texts", "params", "prompts", "heads", "wrappers", "methods"},
    "training": {"adapter", "recipe", "clip", "data", "texts"},
    "analysis": {"adapter", "clip", "texts", "prompts", "heads"},
    "protocols": {"methods", "wrappers", "training", "data", "interop", "adapter", "recipe", "clip", "texts"},
    "cli": {"protocols", "methods", "training", "data", "interop", "adapter", "recipe", "clip", "texts"},
}
ENTRANCES = {"__init__", "__main__"}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("cliptune.") and name.count(".") >= 1}


def test_imports_only_go_up():
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        room = room_of(path)
        if room in ENTRANCES:
            continue
        assert room in ALLOWED | dict.fromkeys(BOTTOM), f"{path.relative_to(ROOT)} stands in no known room"
        allowed = ALLOWED.get(room, set()) | {room} | BOTTOM
        wrong += [f"{path.relative_to(ROOT)} imports {r}" for r in imported_rooms(path) - allowed]
    assert not wrong, "\n".join(wrong)


def test_there_is_no_import_of_training_from_below():
    """The walk must see something: the rooms that matter are really imported."""
    assert "adapter" in imported_rooms(ROOT / "methods" / "coop.py")
    assert "clip" in imported_rooms(ROOT / "adapter.py")
