from __future__ import annotations

import json
from html import escape
from pathlib import Path

import pytest

from cliptune.cli.commands import demo
from cliptune.data import load_data
from cliptune.registry import build, names
from cliptune.runs import read_predictions
from tests.conftest import random_clip


def dataset_of(suite: str):
    return load_data(f"tinyworld/{suite}")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random CLIP in the place of mini, few pictures, one picture size."""
    import cliptune.clip.weights.load
    import cliptune.data.tinyworld.suites as suites

    clip = random_clip()
    clip.origin = {"source": "mini", "activation": "quick_gelu"}
    whole = suites.load_suite
    monkeypatch.setattr(cliptune.clip.weights.load, "load_clip", lambda name, **_: clip)
    monkeypatch.setattr("cliptune.runs.loading.load_clip", lambda name, **_: clip)
    monkeypatch.setattr(suites, "load_suite", lambda name, root=None: whole(name, train=4, val=1, test=2))
    monkeypatch.setattr(demo, "SHOTS", 2)


def test_the_demo_tells_one_story_and_names_commands_that_work(cli):
    answer = cli("demo", "--quick")
    assert answer.code == 0, answer.err
    assert "a laboratory, not a benchmark" in answer.out
    for row in demo.STORY:
        assert f" {row.method} " in answer.out
        assert f"\n{row.method} on {row.suite}: {row.why}\n" in answer.out
    for place in (f"{demo.SUITE}/maple+dpc", f"{demo.BADGES}/dvp_cse"):
        result = json.loads(Path(f"runs/demo/quick/{place}/result.json").read_text())
        assert f"{result['base']:.2f}" in answer.out
        assert (f"{result['new']:.2f}" if result["new"] is not None else "–") in answer.out
    commands = [line.split("#")[0].split()[1:] for line in answer.out.splitlines() if line.startswith("  cliptune")]
    assert [words[0] for words in commands] == ["predict", "eval", "table", "methods", "fit"]
    for words in commands[:-1]:
        assert cli(*words).code == 0, words


def test_it_ends_with_a_page_that_shows_the_task(cli):
    answer = cli("demo", "--quick")
    page = Path("runs/demo/quick/demo.html")
    assert f"The page is {page}," in answer.out
    content = page.read_text()
    base, new = (dataset_of(demo.SUITE).subset(half) for half in ("base", "new"))
    for part, evaluation in ((base, "base"), (new, "new")):
        said = read_predictions(f"runs/demo/quick/{demo.SUITE}/coop", evaluation)
        for label, name in enumerate(part.class_names):
            assert f"<strong>{name}</strong>" in content
            first = next(i for i, item in enumerate(part.test.items) if item.label == label)
            assert f">{part.class_names[said.predicted[first]]} " in content
    badges = dataset_of(demo.BADGES).subset("base").class_names
    assert all(f"<strong>{name}</strong>" in content for name in badges)
    assert content.count("data:image/png;base64,") == len(base.class_names) + len(new.class_names) + len(badges)
    assert all(escape(row.why) in content for row in demo.STORY)
    assert '<a href="report.html">' in content
    assert Path("runs/demo/quick/report.html").is_file()


def test_without_the_extra_there_is_the_page_alone(cli, monkeypatch):
    def missing(*given, **more):
        raise ImportError("A report needs jinja2, which is not installed: pip install 'cliptune[report]'.")

    monkeypatch.setattr("cliptune.report.page.report", missing)
    answer = cli("demo", "--quick")
    assert answer.code == 0, answer.err
    assert "pip install 'cliptune[report]'" in answer.err
    assert 'href="report' not in Path("runs/demo/quick/demo.html").read_text()


def test_equal_steps_and_all_methods(monkeypatch):
    """Without running them: the story's rows get the same budget, and the full demo leaves no method out."""
    from cliptune.registry.listing import takes_steps

    given = {}
    monkeypatch.setattr("cliptune.protocols.base2new", lambda method, *_, **more: given.update({method: more}) or {})
    rows = [*demo.STORY, *demo._others()]
    for row in rows:
        demo._run(row, None, None, Path("here"), 1, quick=False)
        recipe = build(row.method, random_clip(), ["a", "b", "c"], **given[row.method]["options"])
        assert "views" not in row.training or recipe.adapter.image_is_frozen, row.method
    assert {row.method for row in rows} >= set(names())
    assert all(more.get("steps") == (demo.STEPS if takes_steps(method) else None) for method, more in given.items())


def test_a_second_demo_goes_on_with_what_is_there(cli):
    cli("demo", "--quick", "--out", "here")
    first = cli("demo", "--quick", "--out", "here")
    written = {path: path.read_bytes() for path in Path("here").rglob("adapter_model.safetensors")}
    second = cli("demo", "--quick", "--out", "here")
    told = [[line for line in answer.out.splitlines() if "Took" not in line] for answer in (first, second)]
    assert told[0] == told[1]
    assert all(path.read_bytes() == content for path, content in written.items())


def test_bad_input_to_demo_is_one_sentence(cli):
    Path("taken").write_text("a file")
    assert "could not write" in cli("demo", "--quick", "--out", "taken").err
    assert "Invalid value" in cli("demo", "--seed", "one").err
