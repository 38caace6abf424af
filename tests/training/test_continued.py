"""A second stage after a host's own run equals both stages in one run, bit for bit."""

from __future__ import annotations

import json
import shutil

import pytest

from cliptune.runs import read_metrics
from cliptune.training import fit
from tests.training.support import recipe, squares
from tests.training.test_fit import same, timeless

SECOND = {"dpc_epochs": 2, "dpc_batch_size": 3, "dpc_lr": 0.01}
# Dropout, averaging over epochs, a statistic over batches, terms on parts of images: whatever could slip.
HOSTS = {
    "coop": {},
    "cocoop": {"n_ctx": 2},
    "maple+rlp": {"n_ctx": 2, "depth": 2, "rlp_dropout": 0.3},
    "promptsrc": {"gpa_mean": 2.0, "templates": "selected7"},
    "promptkd": {},
    "vpt+bias+dapt": {"n_ctx": 2},
}


def run(clip, method, out, options, second=None, **training):
    chosen = options if second is None else {**options, **SECOND, **second}
    data = squares({"train": 2, "val": 1, "test": 0})
    training = {"progress": "silent", **training}
    return fit(recipe(clip, method, **{"epochs": 2, **chosen}), data, out, seed=5, **training)


@pytest.mark.parametrize("host", HOSTS)
def test_a_second_stage_after_the_hosts_run_equals_both_in_one(host, tiny_clip, tmp_path):
    select, second = ("val", {"dpc_start": "fresh"}) if host in ("coop", "promptsrc") else ("last", {})
    options, method = HOSTS[host], f"{host}+dpc"
    places = [tmp_path / name for name in ("whole", "host", "after")]
    whole = run(tiny_clip, method, places[0], options, second, select=select)
    first = run(tiny_clip, host, places[1], options, select=select)
    after = run(tiny_clip, method, places[2], options, second, select=select, continues=places[1])
    same(after.adapter.learnables(), whole.adapter.learnables())
    assert timeless(after.metrics) == timeless(whole.metrics)
    assert after.result["selected"] == whole.result["selected"]
    assert (places[2] / "config.yaml").read_bytes() == (places[0] / "config.yaml").read_bytes()
    assert whole.result["continues"] is None
    assert after.result["continues"]["method"] == host
    assert after.result["continues"]["seconds"] == first.result["seconds"] < after.result["seconds"]


def test_where_it_began_is_noted_by_a_path_that_moves_with_the_runs(tiny_clip, tmp_path):
    run(tiny_clip, "coop", tmp_path / "a/coop", {})
    run(tiny_clip, "coop+dpc", tmp_path / "a/coop+dpc", {}, {}, continues=tmp_path / "a/coop")
    shutil.move(tmp_path / "a", tmp_path / "b")
    noted = json.loads((tmp_path / "b/coop+dpc/result.json").read_text())["continues"]
    assert (tmp_path / "b/coop+dpc" / noted["run"]).resolve() == tmp_path / "b/coop"
    assert "the coop run in ../coop" in (tmp_path / "b/coop+dpc/log.txt").read_text()


def test_one_that_was_stopped_goes_on_without_the_run_it_began_with(tiny_clip, tmp_path):
    from cliptune.training.progress import Silent

    class Stops(Silent):
        def advance(self, description: str) -> None:
            if "dpc, epoch 2" in description:
                raise KeyboardInterrupt

    whole = run(tiny_clip, "coop+dpc", None, {}, {})
    run(tiny_clip, "coop", tmp_path / "coop", {})
    with pytest.raises(KeyboardInterrupt):
        run(tiny_clip, "coop+dpc", tmp_path / "dpc", {}, {}, continues=tmp_path / "coop", progress=Stops())
    shutil.rmtree(tmp_path / "coop")
    after = run(tiny_clip, "coop+dpc", tmp_path / "dpc", {}, {}, continues=tmp_path / "coop")
    same(after.adapter.learnables(), whole.adapter.learnables())
    assert after.result["continues"]["run"] == "../coop"
    assert len(read_metrics(tmp_path / "dpc")) == 4


def test_a_run_that_is_not_its_beginning_is_refused_with_what_differs(tiny_clip, tmp_path):
    run(tiny_clip, "coop", tmp_path / "coop", {})
    run(tiny_clip, "coop+rlp", tmp_path / "rlp", {})
    for host, options, sentence in (
        ("coop", {"lr": 0.01}, "differs in options.lr \\(0.05 there, 0.01 here\\), stages"),
        ("rlp", {}, "differs in method \\('coop\\+rlp' there, 'coop' here\\)"),
        ("nowhere", {}, "the run of coop in .* is not finished"),
    ):
        with pytest.raises(ValueError, match=sentence):
            run(tiny_clip, "coop+dpc", tmp_path / "dpc", options, {}, continues=tmp_path / host)
        shutil.rmtree(tmp_path / "dpc")
    with pytest.raises(ValueError, match="coop\\+rlp does not begin with another method's training"):
        run(tiny_clip, "coop+rlp", None, {}, continues=tmp_path / "coop")
