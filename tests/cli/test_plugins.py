"""Methods of one's own on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_method.py"


@pytest.fixture
def file() -> str:
    """The example in the working directory."""
    shutil.copy(EXAMPLE, "my_method.py")
    return "./my_method.py"


def test_methods_shows_a_file(cli, file):
    answer = cli("methods", file)
    assert answer.code == 0, answer.err
    assert "2,048" in answer.out
    assert "n_ctx" in answer.out


def test_train_and_eval_with_a_file(cli, file):
    data = ("--data", "tinyworld/objects", "--shots", "1", "--backbone", "mini", "--epochs", "1")
    answer = cli("train", "--method", f"{file}+rlp", *data)
    assert answer.code == 0, answer.err
    folder = "runs/tinyworld-objects-all-1shots/my_method+rlp-seed1"
    assert json.loads(Path(folder, "result.json").read_text())["method"] == "my_method+rlp"
    assert cli("eval", folder).code == 0
    Path(file).write_text("1 / 0")
    answer = cli("eval", folder)
    assert answer.code == 2
    assert "Restore the file as it was" in answer.err


@pytest.mark.parametrize("workers", ["0", "1"])
def test_bench_with_a_file(cli, file, workers):
    answer = cli(
        *("bench", "few_shot", "--methods", f"{file},zeroshot", "--data", "tinyworld/objects", "--shots", "1"),
        *("--seeds", "1", "--backbone", "mini", "--set", f"{file}:epochs=1", "--workers", workers),
    )
    assert answer.code == 0, answer.err + answer.out
    assert "my_method" in answer.out
    assert str(Path.cwd()) not in answer.out


def test_check_runs_the_common_checks(cli, file):
    answer = cli("methods", "check", file)
    assert answer.code == 0, answer.out
    marks = [line for line in answer.out.splitlines() if line.startswith("✓")]
    assert len(marks) == 6
    assert marks[-1].endswith("as declared")


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        (
            "    loss = ",
            "    phrasing.start(clip); clip.logit_scale.requires_grad_()\n    loss = ",
            "✗ frozen CLIP: training changed tensors of the frozen CLIP: logit_scale.",
        ),
        (
            "    loss = ",
            "    adapter.head.idle = torch.nn.Parameter(torch.ones(1))\n    loss = ",
            "✗ gradients: head.idle never",
        ),
        ("4 * 512", "7", "✗ learnables: 7 values are declared"),
        ("ce + weight", "ce.undefined + weight", "✗ gradients: AttributeError"),
    ],
)
def test_check_says_what_fails(cli, file, before, after, line):
    text = Path(file).read_text(encoding="utf-8")
    assert before in text
    Path(file).write_text(text.replace(before, after, 1).replace("import torch.nn", "import torch\nimport torch.nn", 1))
    answer = cli("methods", "check", file)
    assert answer.code == 1
    assert line in answer.out


def test_check_puts_an_add_on_on_a_host(cli):
    answer = cli("methods", "check", "rlp", "--set", "rlp_rank=2")
    assert answer.code == 0, answer.out
    assert answer.out.startswith("coop+rlp on mini")
