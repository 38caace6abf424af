"""Methods from outside the package: files, and entry points of installed distributions."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import cliptune
from cliptune import methods
from cliptune.registry import add_ons, compatibility, list_methods
from cliptune.registry.building import find, installed_names
from cliptune.registry.plugins import label, parts_of
from tests.conftest import CLASS_NAMES

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_method.py"
ADD_ON = '''"""Half steps: the host's rates, halved."""
from dataclasses import dataclass, replace

@dataclass(frozen=True)
class Config:
    half_factor: float = 0.5

def build(recipe, config=Config()):
    for stage in recipe.stages:
        stage.optimiser = replace(stage.optimiser, lr=config.half_factor * stage.optimiser.lr)
    return recipe
'''


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "a+b" / "mine.py"
    path.parent.mkdir()
    path.write_text(EXAMPLE.read_text(encoding="utf-8"), encoding="utf-8")
    return path


def distribution(folder: Path, group: str, points: str, name: str = "fake") -> None:
    """What an installed distribution leaves on the path."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[{group}]\n{points}\n", encoding="utf-8")


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Path:
    """A distribution with the example as `anchored`."""
    folder = tmp_path / "site"
    distribution(folder, "cliptune.methods", "anchored = fake_anchored")
    (folder / "fake_anchored.py").write_text(EXAMPLE.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("fake_anchored", None)


def trained(method: str, out: Path, **options):
    clip = cliptune.load_clip("mini")
    data = cliptune.load_data("tinyworld/objects", shots=1)
    recipe = cliptune.build(method, clip, data.class_names, epochs=1, **options)
    return cliptune.fit(recipe, data, out=out, progress="silent")


def test_the_example_is_short():
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 40


def test_a_plus_inside_of_a_path_does_not_separate():
    assert parts_of("/a+b/my.py+rlp + dpc") == ["/a+b/my.py", "rlp", "dpc"]
    assert label("/a+b/my.py+rlp") == "my+rlp"


def test_a_file_is_built_alone_and_in_a_stack(file, tiny_clip):
    assert methods.build(str(file), tiny_clip, CLASS_NAMES, n_ctx=3).method == "mine"
    recipe = methods.build(f"{file}+rlp+dpc", tiny_clip, CLASS_NAMES)
    assert recipe.method == "mine+rlp+dpc"
    assert recipe.host_stages.method == "mine+rlp"
    assert set(recipe.plugins) == {"mine"}
    assert methods.describe(str(file)).options["weight"] == ("float", 10.0)


def test_a_file_may_be_an_add_on(tmp_path, tiny_clip):
    path = tmp_path / "half_steps.py"
    path.write_text(ADD_ON, encoding="utf-8")
    recipe = methods.build(f"coop+{path}+rlp", tiny_clip, CLASS_NAMES, lr=0.4, half_factor=0.25)
    assert recipe.method == "coop+rlp+half_steps"
    assert recipe.stages[0].optimiser.lr == 0.1
    with pytest.raises(ValueError, match="exactly one method"):
        methods.build(str(path), tiny_clip, CLASS_NAMES)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("coop.py", "", "already, and runs would not tell them apart. Rename the file"),
        ("a b.py", "", "letters, digits"),
        ("no_config.py", "def build(clip, classes, config=None): ...", "lacks a dataclass `Config`"),
        ("wrong.py", "1 / 0", "cannot be run: ZeroDivisionError"),
        ("broken.py", "def (", "cannot be run: SyntaxError"),
    ],
)
def test_a_file_that_is_no_method_is_a_sentence(name, content, message, tmp_path):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        find(str(tmp_path / name))


def test_a_file_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a Python file, found none"):
        find(str(tmp_path / "none.py"))


def test_a_run_is_opened_only_with_the_file_that_made_it(file, tmp_path):
    out = tmp_path / "run"
    run = trained(str(file), out)
    assert run.result["plugins"]["mine"]["path"] == str(file)
    assert cliptune.load(out).class_names == run.adapter.class_names
    mark = tmp_path / "executed"
    as_it_was = file.read_text(encoding="utf-8")
    file.write_text(as_it_was + f"\nopen({str(mark)!r}, 'w')\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has not been executed. Restore the file"):
        cliptune.load(out)
    assert not mark.exists()
    with pytest.raises(ValueError, match="holds another run; it differs in plugins.mine"):
        trained(str(file), out)
    file.unlink()
    with pytest.raises(FileNotFoundError, match="not there any more. Put the file with SHA-256"):
        cliptune.load(out)


def test_an_installed_method_is_found_by_its_name(installed, tmp_path, monkeypatch):
    assert installed_names() == ("anchored",)
    out = tmp_path / "run"
    assert trained("anchored", out).result["plugins"]["anchored"]["installed"]
    assert cliptune.load(out).prompt is not None
    monkeypatch.undo()
    with pytest.raises(ValueError, match="is not installed any more"):
        cliptune.load(out)


def test_installed_names_that_clash_are_a_sentence(tmp_path, monkeypatch):
    distribution(tmp_path, "cliptune.methods", "coop = nowhere\ntwice = one", "first")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert installed_names() == ("twice",)
    assert find("coop").__name__ == "cliptune.methods.coop"  # the package's
    with pytest.raises(ValueError, match="Installed method 'twice' \\(one\\) cannot be imported"):
        find("twice")
    distribution(tmp_path / "more", "cliptune.methods", "twice = other", "second")
    monkeypatch.syspath_prepend(str(tmp_path / "more"))
    with pytest.raises(ValueError, match="Two installed distributions name a method 'twice'"):
        find("twice")


def test_a_broken_installed_method_costs_the_listing_only_itself(installed, tmp_path, monkeypatch):
    distribution(tmp_path / "broken", "cliptune.methods", "shattered = nowhere_to_be_found", "broken")
    monkeypatch.syspath_prepend(str(tmp_path / "broken"))
    with pytest.warns(UserWarning, match=r"Installed method 'shattered' .* cannot be imported.* It is left out\."):
        listed = [method.name for method in list_methods()]
    assert "anchored" in listed
    assert "shattered" not in listed


def test_what_joins_a_method_from_a_file_is_asked_too():
    cells = [cell for cell in compatibility(others=[str(EXAMPLE)]) if cell.host == str(EXAMPLE)]
    assert {cell.add_ons: cell.accepted for cell in cells}[("rlp",)]
    assert len(cells) == 1 + len(add_ons())
