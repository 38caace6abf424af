"""Options chosen on seeds and validation images of their own."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cliptune.data import DataSpec
from cliptune.data.items import Split
from cliptune.protocols import few_shot
from cliptune.results import collect, rows
from cliptune.runs import read_result
from cliptune.sweep import Outcome, Search, Sweep
from tests.training.support import squares

RATES = [{"lr": 0.001}, {"lr": 0.1}, {"lr": 0.01}]


def sweep(protocol: str = "base2new", **more) -> Sweep:
    return Sweep(protocol, ["coop", "zeroshot"], [DataSpec("tinyworld/aquarium")], shots=[2, 4], seeds=[1, 2], **more)


def answered(search: Search, accuracy) -> list[Outcome]:
    """Finished runs whose validation accuracy is made up."""
    for cell in search.cells:
        cell.folder.mkdir(parents=True)
        result = {"evaluations": {"val": {"accuracy": accuracy(cell.spec)}}}
        (cell.folder / "result.json").write_text(json.dumps(result))
    return [Outcome(cell, 1.0) for cell in search.cells]


def test_the_search_is_made_of_other_seeds_on_the_training_classes(tmp_path):
    search = Search(sweep(), {"coop": RATES, "zeroshot": []}, [101, 102], tmp_path)
    assert len(search.cells) == 3 * 2 * 2  # candidates, seeds, shots
    assert len({cell.folder for cell in search.cells}) == len(search.cells)
    assert all(cell.folder.is_relative_to(tmp_path / "tuning") for cell in search.cells)
    specs = [cell.spec for cell in search.cells]
    assert {(spec.protocol, spec.data.classes, spec.method) for spec in specs} == {("few_shot", "base", "coop")}
    assert {spec.seed for spec in specs} == {101, 102}
    assert all(spec.asked == {"score_on": "val"} for spec in specs)


def test_the_best_mean_over_the_seeds_is_taken_for_each_number_of_shots(tmp_path):
    search = Search(sweep(), {"coop": RATES}, [101, 102], tmp_path)
    best = {2: 0.1, 4: 0.01}

    def accuracy(spec):
        lucky = 30.0 if spec.seed == 101 and spec.options["lr"] == 0.001 else 0.0
        return 50.0 + lucky + (20.0 if spec.options["lr"] == best[spec.shots] else 0.0)

    choices = search.choices(answered(search, accuracy))
    assert sorted((c.options["lr"], c.accuracy, c.tried) for c in choices.values()) == [(0.01, 70.0, 3), (0.1, 70.0, 3)]
    tuned = search.sweep(choices).runs()
    coop = [spec for spec in tuned if spec.method == "coop"]
    assert {(spec.shots, spec.options["lr"]) for spec in coop} == {(2, 0.1), (4, 0.01)}
    assert {spec.seed for spec in coop} == {1, 2}
    flag = coop[0].training["flags"]["tuned"]
    assert flag["options"] == {"lr": best[coop[0].shots]}
    assert (flag["seeds"], flag["chosen_on"], flag["tried"]) == ([101, 102], "validation images", 3)
    assert all("flags" not in spec.training for spec in tuned if spec.method == "zeroshot")


def test_students_are_tried_with_the_grids_own_teacher_of_their_seed(tmp_path):
    def settled(spec):
        options = {"teacher": "coop"} if spec.method == "promptkd" else {"n_ctx": 2}
        return replace(spec, options=options)

    grid = Sweep("base2new", ["coop", "promptkd"], [DataSpec("tinyworld/aquarium")], seeds=[1, 2], settled=settled)
    search = Search(grid, {"promptkd": RATES}, [101, 102], tmp_path)
    teachers, students = search.cells[:2], search.cells[2:]
    assert [(cell.spec.method, cell.spec.seed, cell.spec.options) for cell in teachers] == [
        ("coop", 101, {"n_ctx": 2}),
        ("coop", 102, {"n_ctx": 2}),
    ]
    assert len(students) == 3 * 2
    of_seed = {cell.spec.seed: cell.folder for cell in teachers}
    for cell in students:
        assert cell.spec.options["teacher"] == str(of_seed[cell.spec.seed])
        assert cell.after == (of_seed[cell.spec.seed],)
    chosen = search.choices(answered(search, lambda spec: 100 * spec.options.get("lr", 50.0)))
    assert [choice.options for choice in chosen.values()] == [{"lr": 0.1}]  # a teacher is no candidate


def test_of_equal_candidates_the_first_is_taken(tmp_path):
    search = Search(sweep(), {"coop": RATES}, [101], tmp_path)
    choices = search.choices(answered(search, lambda spec: 50.0))
    assert {choice.options["lr"] for choice in choices.values()} == {0.001}


def test_a_seed_that_is_reported_and_a_protocol_without_shots_are_sentences(tmp_path):
    with pytest.raises(ValueError, match="on seeds that are not reported, but 2 would be both"):
        Search(sweep(), {"coop": RATES}, [2, 101], tmp_path)
    with pytest.raises(ValueError, match="there are none to choose on"):
        Search(sweep(), {"coop": RATES}, [], tmp_path)
    share = {"fraction": 0.5, "selection": "uniform"}
    with pytest.raises(ValueError, match="data_efficient keeps the whole validation split"):
        Search(sweep("data_efficient", asked=lambda data: [share]), {"coop": RATES}, [101], tmp_path)


def test_a_run_for_choosing_looks_at_validation_images_alone_and_stays_out_of_tables(tiny_clip, tmp_path):
    data, options = squares(), {"epochs": 1, "batch_size": 4}
    tuning = few_shot("coop", tiny_clip, data, out=tmp_path / "a", score_on="val", options=options)
    assert list(tuning["evaluations"]) == ["val"]
    assert read_result(tmp_path / "a")["purpose"] == "tuning"
    flags = {"tuned": {"options": {"lr": 0.1}, "seeds": [101], "chosen_on": "validation images"}}
    few_shot("coop", tiny_clip, data, out=tmp_path / "b", options=options, flags=flags)
    (row,) = rows(collect(tmp_path))
    assert (row.seeds, list(row.scores)) == ((1,), ["test"])
    assert row.caveats == ("lr tuned on seed 101 (validation images)",)


def test_a_run_found_finished_is_flagged_as_well(tiny_clip, tmp_path):
    options = {"epochs": 1, "batch_size": 4}
    few_shot("coop", tiny_clip, squares(), out=tmp_path, options=options)
    few_shot("coop", tiny_clip, squares(), out=tmp_path, options=options, flags={"tuned": {"seeds": [101]}})
    assert read_result(tmp_path)["flags"]["tuned"] == {"seeds": [101]}


def test_without_validation_images_of_their_own_nothing_is_chosen(tiny_clip):
    data = squares()
    with pytest.raises(ValueError, match="squares has no validation images"):
        few_shot("coop", tiny_clip, replace(data, val=Split.empty()), score_on="val")
    with pytest.raises(ValueError, match="are among its test images"):
        few_shot("coop", tiny_clip, replace(data, val=data.test.subset([0, 1, 2])), shots=None, score_on="val")
    with pytest.raises(ValueError, match="score_on must be 'test' or 'val'"):
        few_shot("coop", tiny_clip, data, score_on="train")
