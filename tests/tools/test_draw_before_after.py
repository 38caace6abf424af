"""The picture of the README."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from PIL import Image

import cliptune.data.tinyworld.suites as suites

TOOL = Path(__file__).parents[2] / "tools/draw_before_after.py"


def colours_below(sheet: Image.Image, column: int, module: dict) -> set[tuple[int, ...]]:
    left = module["GAP"] + 150 + column * (module["SIDE"] + module["GAP"])
    part = sheet.crop((left, module["GAP"] + module["SIDE"] + 30, left + module["SIDE"], sheet.height))
    return {colour for _, colour in part.getcolors(1 << 20)}


def test_right_and_wrong_answers_have_their_colours():
    module = runpy.run_path(str(TOOL), run_name="tool")
    pictures = [Image.new("RGB", (64, 64), "black")] * 2
    sheet = module["draw"](pictures, ["a", "b"], [("row", [("a", 90.0), ("a", 60.0)])])
    right, wrong = (tuple(bytes.fromhex(module[name][1:])) for name in ("RIGHT", "WRONG"))
    assert right in colours_below(sheet, 0, module)
    assert wrong not in colours_below(sheet, 0, module)
    assert wrong in colours_below(sheet, 1, module)


def test_the_command_draws_what_two_adapters_answer(tmp_path, monkeypatch, capsys):
    whole = suites.load_suite
    monkeypatch.setattr(suites, "load_suite", lambda name, root=None: whole(name, train=16, val=4, test=2))
    monkeypatch.setattr(sys, "argv", ["draw", "--out", str(tmp_path / "a/b.png"), "--epochs", "1", "--classes", "3"])
    runpy.run_path(str(TOOL), run_name="__main__")
    assert "frozen CLIP: " in capsys.readouterr().out
    assert Image.open(tmp_path / "a/b.png").mode == "RGB"
