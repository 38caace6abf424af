import errno
import json
import os
from pathlib import Path

import pytest
import torch
import yaml

from cliptune.data.items import Dataset, Item, Split
from cliptune.registry.building import usual_options
from cliptune.runs import RunFolder, read_config, read_metrics, read_result
from cliptune.runs.folder import _with_later_options
from cliptune.runs.jsonable import jsonable
from cliptune.runs.manifest import write_result
from cliptune.training import evaluate, fit
from tests.conftest import without_manifest
from tests.training.support import NAMES, recipe, squares
from tests.training.test_fit import StopAfter, same


def test_a_run_leaves_every_file(tiny_clip, tmp_path):
    fit(recipe(tiny_clip), squares(), tmp_path, progress="silent")
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.yaml", "env.json", "split.json", "metrics.jsonl", "result.json", "adapter_config.json",
        "adapter_model.safetensors", "state", "log.txt", "manifest.json",
    }  # fmt: skip
    config = read_config(tmp_path)
    assert (config["method"], config["seed"], config["select"]) == ("coop", 1, "last")
    assert config["options"]["n_ctx"] == 4
    split = json.loads((tmp_path / "split.json").read_text())
    assert len(split["train"]) == 18
    result = read_result(tmp_path)
    assert result["data"]["split_sha256"] == split["split_sha256"]
    assert result["flags"] == {
        "selection": "last", "precision": "fp32", "extra_images": False, "unlabelled_test_images": False,
        "external_models": [], "augmentation": True, "views": None,
    }  # fmt: skip
    environment = json.loads((tmp_path / "env.json").read_text())
    assert environment["torch"] == torch.__version__
    for name in ("config.yaml", "env.json", "split.json", "result.json", "adapter_config.json", "log.txt"):
        text = (tmp_path / name).read_text()
        assert str(Path.home()) + "/" not in text, name
        assert str(tmp_path) not in text, name


def test_flags_of_the_recipe_reach_the_result(tiny_clip, tmp_path):
    r = recipe(tiny_clip)
    r.flags = {"external_models": ["teacher"], "unlabelled_test_images": True}
    flags = fit(r, squares(), tmp_path, progress="silent").result["flags"]
    assert flags["external_models"] == ["teacher"]
    assert flags["unlabelled_test_images"] is True


def test_a_finished_run_is_recognised_and_returned(tiny_clip, tmp_path):
    first = fit(recipe(tiny_clip), squares(), tmp_path, progress="silent")
    stamp = (tmp_path / "result.json").stat().st_mtime_ns
    shown = StopAfter(1)
    again = fit(recipe(tiny_clip), squares(), tmp_path, progress=shown)
    assert shown.left == 1
    same(again.adapter.learnables(), first.adapter.learnables())
    assert (again.result, again.metrics) == (first.result, first.metrics)
    assert (tmp_path / "result.json").stat().st_mtime_ns == stamp


def test_another_run_is_refused_with_what_differs(tiny_clip, tmp_path):
    fit(recipe(tiny_clip), squares(), tmp_path, progress="silent")
    with pytest.raises(ValueError, match=r"holds another run; it differs in seed \(1 there, 2 here\)\."):
        fit(recipe(tiny_clip), squares(), tmp_path, seed=2, progress="silent")
    with pytest.raises(ValueError, match=r"options\.lr \(0\.05 there, 0\.1 here\)"):
        fit(recipe(tiny_clip, lr=0.1), squares(), tmp_path, progress="silent")
    with pytest.raises(ValueError, match="the content of the pictures that are learned from"):
        fit(recipe(tiny_clip), squares({"train": 5, "val": 3, "test": 4}), tmp_path, progress="silent")
    with pytest.raises(ValueError, match="resuming was turned off"):
        fit(recipe(tiny_clip), squares(), tmp_path, resume=False, progress="silent")


def test_overwriting_starts_anew_and_leaves_other_files(tiny_clip, tmp_path):
    fit(recipe(tiny_clip), squares(), tmp_path, progress="silent")
    (tmp_path / "notes.md").write_text("mine")
    run = fit(recipe(tiny_clip, epochs=2), squares(), tmp_path, overwrite=True, progress="silent")
    assert len(run.metrics) == len(read_metrics(tmp_path)) == 2
    assert (tmp_path / "notes.md").read_text() == "mine"


def test_strangers_files_are_not_overwritten(tiny_clip, tmp_path):
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds result\.json but no config\.yaml"):
        fit(recipe(tiny_clip), squares(), tmp_path, progress="silent")
    assert (tmp_path / "result.json").read_text() == "{}"


def test_a_file_is_no_folder(tiny_clip, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        fit(recipe(tiny_clip), squares(), tmp_path / "file", progress="silent")


def test_another_folder_format_is_refused(tiny_clip, tmp_path):
    fit(recipe(tiny_clip), squares(), tmp_path, progress="silent")
    config = yaml.safe_load((without_manifest(tmp_path) / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**config, "format": 9}))
    with pytest.raises(ValueError, match="run-folder format 9; this version of cliptune reads format 1"):
        fit(recipe(tiny_clip), squares(), tmp_path, progress="silent")


def test_a_damaged_state_is_refused(tiny_clip, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(recipe(tiny_clip), squares(), tmp_path, progress=StopAfter(6))
    path = tmp_path / "state" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="cannot be read .*overwrite=True"):
        fit(recipe(tiny_clip), squares(), tmp_path, progress="silent")


def test_a_torn_line_of_metrics_is_dropped_on_resume(tiny_clip, tmp_path):
    whole = fit(recipe(tiny_clip), squares(), tmp_path / "whole", progress="silent")
    with pytest.raises(KeyboardInterrupt):
        fit(recipe(tiny_clip), squares(), tmp_path / "cut", progress=StopAfter(6))
    with open(tmp_path / "cut" / "metrics.jsonl", "a") as file:
        file.write('{"stage": "train", "epo')
    cut = fit(recipe(tiny_clip), squares(), tmp_path / "cut", progress="silent")
    assert [line["loss"] for line in cut.metrics] == [line["loss"] for line in whole.metrics]


@pytest.fixture(scope="module")
def whole(tiny_clip):
    return fit(recipe(tiny_clip, epochs=2), squares(), progress="silent").adapter.learnables()


@pytest.mark.parametrize(
    ("call", "after"),
    [("fsync", 0), ("fsync", 3), ("fsync", 7), ("fsync", 12), ("fsync", 15), ("write", 0), ("write", 1), ("write", 4)],
)
def test_a_full_disk_gives_a_sentence_and_loses_nothing(tiny_clip, whole, tmp_path, monkeypatch, call, after):
    """Whatever write fails first, the same command afterwards ends as if nothing had happened."""
    data, left = squares(), [after]
    real = getattr(os, call)

    def full(handle, *rest):
        # Only files of the run: the terminal and the test runner write as well.
        if str(tmp_path) in os.path.realpath(f"/proc/self/fd/{handle}"):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        with pytest.raises(OSError, match="the disk is full. Nothing already written was lost") as caught:
            fit(recipe(tiny_clip, epochs=2), data, tmp_path / "run", progress="silent", save_every=0)
    assert str(tmp_path) in str(caught.value)
    assert left[0] < 0
    run = fit(recipe(tiny_clip, epochs=2), data, tmp_path / "run", progress="silent")
    same(run.adapter.learnables(), whole)
    assert len(run.metrics) == 2
    assert not [p.name for p in (tmp_path / "run").rglob("*") if p.name.startswith(".")]


def test_a_full_disk_that_takes_half_a_line_leaves_whole_lines(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path, {"seed": 1})
    folder.append_metrics({"epoch": 1})
    real = os.write

    def half(handle, content):
        monkeypatch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        return real(handle, content[:5])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="the disk is full"):
        folder.append_metrics({"epoch": 2})
    assert read_metrics(tmp_path) == [{"epoch": 1}]


def test_evaluations_are_entered_into_the_result(tiny_clip, tmp_path):
    data = squares()
    run = fit(recipe(tiny_clip), data, tmp_path, progress="silent")
    numbers = evaluate(run.adapter, data.test)
    run.add("test", numbers)
    assert read_result(tmp_path)["evaluations"]["test"]["accuracy"] == numbers.accuracy
    assert "logits" not in read_result(tmp_path)["evaluations"]["test"]


def test_validation_images_in_files_are_compared_by_path_with_the_test_images(tiny_clip, tmp_path):
    from PIL import Image

    for i in range(6):
        Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / f"{i}.png")
    items = [Item(f"{i}.png", i % 3, NAMES[i % 3]) for i in range(6)]
    train, test = Split.of_files(tmp_path, items), Split.of_files(tmp_path, items)
    data = Dataset("files", NAMES, train, Split.of_files(tmp_path, items[:3]), test)
    with pytest.raises(ValueError, match="validation images of files are among its test images"):
        fit(recipe(tiny_clip), data, select="val", progress="silent")


def test_plain_values_survive_yaml_and_json():
    value = {"a": (1, 2.5, None), "b": {"x"}, 3: Path("c/d"), "t": torch.tensor([1.0]), "lr": 1e-5}
    assert jsonable(value) == {"a": [1, 2.5, None], "b": ["x"], "3": "c/d", "t": [1.0], "lr": 1e-5}
    assert yaml.safe_load(yaml.safe_dump(jsonable(value))) == json.loads(json.dumps(jsonable(value))) == jsonable(value)
    with pytest.raises(ValueError, match="cannot be written to a run folder"):
        jsonable({"f": print})


def test_a_second_process_is_kept_out_until_the_first_lets_go(tiny_clip, tmp_path):
    class Second(StopAfter):
        def advance(self, description):
            # A lock belongs to an open file, so that this process can stand for another.
            with pytest.raises(ValueError, match="Another process is working in the run folder"):
                RunFolder(tmp_path, {})

    fit(recipe(tiny_clip, epochs=1), squares(), tmp_path, progress=Second(0))
    fit(recipe(tiny_clip, epochs=1), squares(), tmp_path, progress="silent")
    with pytest.raises(KeyboardInterrupt):
        fit(recipe(tiny_clip, epochs=2), squares(), tmp_path, overwrite=True, progress=StopAfter(1))
    fit(recipe(tiny_clip, epochs=2), squares(), tmp_path, progress="silent")


def test_a_file_system_that_cannot_lock_keeps_nobody_out(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuses(handle, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuses)
    code = errno.EBADF  # what a folder on NFS answers
    RunFolder(tmp_path / "run", {"a": 1}).release()
    code = errno.EACCES
    with pytest.raises(OSError, match=r"could not write .*run: the folder may not be written"):
        RunFolder(tmp_path / "run", {"a": 1})


def test_a_forked_process_does_not_keep_the_folder(tmp_path):
    """As the processes do that read images: they may live a little longer than the run."""
    folder = RunFolder(tmp_path, {"seed": 1})
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(theirs)
        os.read(ours, 1)  # until the parent closes its end
        os._exit(0)
    folder.release()
    try:
        RunFolder(tmp_path, {"seed": 1}, overwrite=True).release()
    finally:
        os.close(theirs)
        os.close(ours)
        os.waitpid(child, 0)


def test_what_others_entered_meanwhile_stays_in_the_result(tiny_clip, tmp_path):
    run = fit(recipe(tiny_clip), squares(), tmp_path, progress="silent")
    other = dict(read_result(tmp_path))
    write_result(tmp_path, {**other, "evaluations": {"new": {"accuracy": 1.0}}, "targets": {"a/test": {"n": 1}}})
    run.add("test", evaluate(run.adapter, squares().test))
    found = read_result(tmp_path)
    assert set(found["evaluations"]) == {"test", "new"}
    assert found["evaluations"]["new"] == {"accuracy": 1.0}
    assert found["targets"] == {"a/test": {"n": 1}}


def test_an_option_that_a_method_got_later_does_not_make_it_another_run(tmp_path):
    """At its default alone: a run of another value is another run."""
    options = {"rlp_rank": 2, "rlp_frozen": True}
    asked = {"method": "coop+rlp", "options": {**usual_options("coop+rlp"), **options}}
    before = {"method": "coop+rlp", "options": {k: v for k, v in asked["options"].items() if k != "rlp_frozen"}}
    assert _with_later_options(before) == asked
    assert _with_later_options(before) != {**asked, "options": {**asked["options"], "rlp_frozen": False}}
    assert _with_later_options({"method": "/else/mine", "options": {"a": 1}}) == {
        "method": "/else/mine",
        "options": {"a": 1},
    }


def test_a_run_that_goes_on_with_other_products_says_so(tmp_path):
    folder = RunFolder(tmp_path, {"seed": 1})
    try:
        assert folder.write_environment(torch.device("cpu"), products="torch") == []
        assert folder.write_environment(torch.device("cpu"), products="torch") == []
        (said,) = folder.write_environment(torch.device("cpu"), products="oneDNN")
        assert "started with products torch and goes on with oneDNN" in said
    finally:
        folder.release()
