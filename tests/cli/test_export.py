from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cliptune.data.own.predictions import prediction_formats

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["torchvision"] = sys.modules["safetensors"] = None
from cliptune.cli.main import main
code = main(sys.argv[1:])
assert sys.modules["torch"] is None
sys.exit(code)
"""


@pytest.fixture
def run(cli, photos: Path, backbone: Path) -> Path:
    answer = cli("fit", photos, "--epochs", 2, "--method", "coop", "--out", "out", "--backbone", backbone)
    assert answer.code == 0, answer.err
    return Path("out")


def test_a_run_is_exported_and_answers_the_same(cli, run, photos):
    answer = cli("export", run)
    assert answer.code == 0, answer.err
    assert "out-onnx/model.onnx: onnx, float32, 4 classes" in answer.out
    assert "no probability differs by more than" in answer.out
    cli("export", run, "--to", "folded")
    expected = json.loads(cli("predict", run, photos, "--json").out)
    for place in ("out-onnx", "out-onnx/model.onnx", "out-folded"):
        found = json.loads(cli("predict", place, photos, "--json").out)
        assert [one["image"] for one in found] == [one["image"] for one in expected]
        for a, b in zip(found, expected, strict=True):
            ours = {p["class"]: p["probability"] for p in a["predictions"]}
            assert ours == pytest.approx({p["class"]: p["probability"] for p in b["predictions"]}, abs=1e-5)


def _without_torch(*words: object) -> str:
    """What `cliptune` prints in a process that has no torch."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_onnx_file_is_answered_without_torch(cli, run, photos):
    assert cli("export", run).code == 0
    expected = cli("predict", "out-onnx", photos).out
    assert _without_torch("predict", "out-onnx/model.onnx", photos) == expected


@pytest.mark.parametrize("kind", sorted(prediction_formats()))
def test_its_answers_are_written_without_torch(cli, run, photos, kind):
    assert cli("export", run).code == 0
    words = ("predict", "out-onnx/model.onnx", photos, "--format", kind, "--out")
    assert cli(*words, "with").code == 0
    _without_torch(*words, "without")
    assert Path("without").read_text() == Path("with").read_text()


def test_json_tells_what_was_written(cli, run, photos):
    answer = cli("export", run, "--out", "deep/er", "--to", "torch-export", "--pictures", photos, "--json")
    said = json.loads(answer.out)
    assert said["path"] == "deep/er/model.pt2"
    assert said["checked"]["pictures"] == 32
    assert said["classes"] == ["blue jay", "green frog", "red fox", "snow"]


def test_other_classes_are_decided_by_the_export(cli, run, photos):
    assert cli("export", run, "--classes", "lynx,puma", "--out", "cats.onnx").code == 0
    assert "lynx" in cli("predict", "cats.onnx", photos).out
    answer = cli("predict", "cats.onnx", photos, "--classes", "a,b", "--template", "a {}")
    assert answer.code == 2
    assert "--classes, --template cannot change them" in answer.err


def test_exports_tries_methods(cli):
    answer = cli("methods", "exports", "cocoop", "--to", "folded", "--to", "torch-export")
    assert answer.code == 0
    assert "1. export: the texts of this method depend on the image" in answer.out
    said = json.loads(cli("methods", "exports", "coop", "--to", "folded", "--format", "json").out)
    assert said[0]["mark"] == "✓"
    assert "| coop | ✓ 0e+00 |" in cli("methods", "exports", "coop", "--to", "folded", "--format", "md").out
