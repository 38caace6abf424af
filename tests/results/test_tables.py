from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from cliptune.data import DataSpec
from cliptune.results.tables import AVERAGE, Finished, caveats, collect, rows
from cliptune.runs import RunSpec
from tests.conftest import without_manifest


def run(method: str = "coop", data: str = "a", seed: int = 1, **more) -> Finished:
    written = {"n_ctx": "4", **more.pop("options", {})}
    options = {name: json.loads(value) for name, value in written.items()}
    settings = {"select": "last", "split": "12ab", **more.pop("settings", {})}
    scores = more.pop("scores", {"base": 80.0, "new": 60.0})
    asked = {"shots": more.pop("shots", 16), "seed": seed, "classes": more.pop("trained", "base")}
    part = more.pop("part", {})
    spec = RunSpec(method, DataSpec(data, **asked), backbone=more.pop("backbone", "mini"), options=options, asked=part)
    folder, learnables = Path(f"{data}/{method}-{seed}"), more.pop("learnables", 2048)
    return Finished(folder, spec, data, learnables, scores, settings, **more)


def test_seeds_are_averaged_and_hm_is_that_of_the_averages():
    scores = [{"base": 80.0, "new": 60.0}, {"base": 90.0, "new": 40.0}, {"base": 70.0, "new": 65.0}]
    (row,) = rows(run(seed=seed, scores=score) for seed, score in enumerate(scores, 1))
    assert row.seeds == (1, 2, 3)
    assert row.mean("base") == pytest.approx(80)
    assert row.std("base") == pytest.approx((200 / 3) ** 0.5)  # ddof 0
    new = statistics.mean([60, 40, 65])
    assert row.harmonic_mean == pytest.approx(2 * 80 * new / (80 + new))


def test_the_average_row_is_over_data_sets_and_only_of_methods_that_have_all():
    runs = [
        run(data="a", scores={"base": 80.0, "new": 60.0}),
        run(data="b", scores={"base": 60.0, "new": 80.0}),
        run("maple", data="a"),
    ]
    *_, average = rows(runs)
    assert [row.method for row in rows(runs) if row.data == AVERAGE] == ["coop"]
    assert average.mean("base") == average.mean("new") == 70
    assert average.harmonic_mean == pytest.approx(70)
    assert average.std("base") is None


def test_averages_have_a_standard_deviation_over_seeds_where_all_data_sets_have_them():
    scores = {"a": [80.0, 90.0, 70.0], "b": [60.0, 50.0, 40.0]}
    runs = [
        run(data=d, seed=seed, trained="all", scores={"test": value})
        for d, values in scores.items()
        for seed, value in enumerate(values, 1)
    ]
    average = rows(runs)[-1]
    assert average.data == AVERAGE
    assert average.std("test") == pytest.approx(statistics.pstdev([70, 70, 55]))
    assert average.mean("test") == pytest.approx(65)
    assert rows(runs[:-1])[-1].std("test") is None  # one has other seeds


def test_the_mean_of_harmonic_means_is_told_from_that_of_the_means():
    scores = {"a": [(80.0, 60.0), (90.0, 40.0)], "b": [(50.0, 50.0), (30.0, 70.0)]}

    def hm(base, new):
        return 2 * base * new / (base + new)

    found = rows(
        run(data=data, seed=seed, scores={"base": base, "new": new})
        for data, pairs in scores.items()
        for seed, (base, new) in enumerate(pairs, 1)
    )
    a, b, average = found
    assert a.mean_of_harmonic_means == pytest.approx((hm(80, 60) + hm(90, 40)) / 2)
    assert (a.harmonic_mean, b.harmonic_mean) == (pytest.approx(hm(85, 50)), pytest.approx(hm(40, 60)))
    assert average.harmonic_mean == pytest.approx(hm((85 + 40) / 2, (50 + 60) / 2))
    assert average.mean_of_harmonic_means == pytest.approx((hm(85, 50) + hm(40, 60)) / 2)
    assert rows([run(metric="ece")])[0].harmonic_mean is None


def on(target: str, protocol: str = "cross", **more) -> Finished:
    """A run on the data set "src", scored on another."""
    more = {"scores": {"test": 50.0}, **more}
    return run(data=target, trained="all", trained_on="src", protocol=protocol, **more)


def test_targets_stand_apart_from_their_source_with_an_average_of_their_own():
    source = [run(data=data, trained="all", scores={"test": 90.0}) for data in ("src", "other")]
    targets = [on("x"), on("y", scores={"test": 70.0}), on("x", "domains"), on("z", "domains"), on("x", seed=2)]
    found = [(row.place, row.seeds, row.mean("test")) for row in rows([*targets, *source])]
    assert found == [
        ("other", (1,), 90),
        ("src", (1,), 90),
        ("average", (1,), 90),
        ("src → x", (1, 2), 50),
        ("src → y", (1,), 70),
        ("src → average of 2 targets", (), 60),
        ("src → x", (1,), 50),
        ("src → z", (1,), 50),
        ("src → average of 2 domains", (1,), 50),
    ]


def test_targets_of_different_pictures_are_kept_apart():
    found = rows([on("x", settings={"target split": "ab"}), on("x", seed=2, settings={"target split": "cd"})])
    assert [row.method for row in found] == ["coop (target split=ab)", "coop (target split=cd)"]


@pytest.mark.parametrize(
    ("other", "labels"),
    [
        ({"settings": {"select": "val"}}, ["coop (select=last)", "coop (select=val)"]),
        ({"settings": {"split": "34cd"}}, ["coop (split=12ab)", "coop (split=34cd)"]),
        ({"options": {"n_ctx": "16"}}, ["coop (n_ctx=4)", "coop (n_ctx=16)"]),
        ({"backbone": "RN50"}, ["coop (mini)", "coop (RN50)"]),
        ({"trained": "all"}, ["coop (base classes)", "coop (all classes)"]),
        ({"settings": {"accumulate": "3"}}, ["coop (accumulate=none)", "coop (accumulate=3)"]),
        ({"settings": {"descriptions": "ab"}}, ["coop (descriptions=none)", "coop (descriptions=ab)"]),
        ({"shots": 1}, ["coop", "coop"]),
        ({"part": {"fraction": 0.1, "selection": "herding"}}, ["coop", "coop"]),
    ],
)
def test_runs_that_differ_in_more_than_the_seed_are_kept_apart(other, labels):
    found = rows([run(seed=1), run(seed=2, **other)])
    assert [row.method for row in found] == labels
    assert all(len(row.seeds) == 1 for row in found)


@pytest.mark.parametrize(
    ("other", "note"),
    [
        ({"settings": {"split": "34cd", "template": "a {}."}}, ()),
        ({"options": {"names": '"their own"'}}, ()),
        ({"options": {"n_ctx": "16"}}, ("n_ctx set by data set",)),
        ({"seed": 2}, ("seeds differ by data set",)),
        ({"settings": {"select": "oracle"}}, None),
        ({"settings": {"precision": "bf16"}}, None),
        ({"backbone": "RN50"}, None),
        ({"shots": 1}, None),
        ({"part": {"fraction": 0.1, "selection": "herding"}}, None),
        ({"trained": "all"}, None),
    ],
)
def test_an_average_mixes_what_belongs_to_the_data_alone_and_says_what_else_it_does(other, note):
    found = [row for row in rows([run(data="a"), run(data="b", **other)]) if row.data == AVERAGE]
    assert [row.caveats for row in found] == ([] if note is None else [note])
    assert all(row.method == "coop" and row.mean("base") == 80 for row in found)


def test_two_variants_on_all_data_sets_have_an_average_each():
    found = rows([run(data=data, options={"n_ctx": n}) for data in "ab" for n in ("4", "16")])
    labels = [row.method for row in found if row.data == AVERAGE]
    assert labels == ["coop (n_ctx=4)", "coop (n_ctx=16)"]
    more = rows([run(data=data, backbone=name) for data in "ab" for name in ("mini", "RN50")])
    assert [row.method for row in more if row.data == AVERAGE] == ["coop (mini)", "coop (RN50)"]


def test_two_rows_on_one_data_set_are_no_average_over_two():
    twice = [run(data="a"), run(data="a", settings={"split": "34cd"})]
    assert not [row for row in rows([*twice, run("maple", data="b")]) if row.data == AVERAGE]


def test_an_option_is_told_where_a_setting_has_its_name_and_long_lists_only_if_nothing_else_differs():
    found = rows([run(options={"views": n}, settings={"views": "null"}) for n in ("1", "3")])
    assert [row.method for row in found] == ["coop (views=1)", "coop (views=3)"]
    names = [json.dumps([f"class {i}" for i in range(n)]) for n in (50, 60)]
    some = rows([run(trained=t, options={"names": n}) for t, n in zip(("base", "all"), names, strict=True)])
    assert [row.method for row in some] == ["coop (base classes)", "coop (all classes)"]
    alone = [row.method for row in rows([run(options={"names": n}) for n in names])]
    assert len(set(alone)) == 2
    assert all(len(label) < 60 for label in alone)


def test_an_average_over_other_options_is_not_named_after_one_of_them():
    given = [("a", "4"), ("b", "4"), ("a", "16"), ("b", "8")]
    found = [row for row in rows([run(data=d, options={"n_ctx": n}) for d, n in given]) if row.data == AVERAGE]
    assert [(row.method, row.caveats) for row in found] == [
        ("coop (n_ctx=4)", ()),
        ("coop", ("n_ctx set by data set",)),
    ]


def test_a_run_on_all_classes_takes_no_average_from_those_on_base_ones():
    found = rows([run(data="a"), run(data="b"), run(data="c", trained="all", scores={"test": 50.0})])
    assert [row.members for row in found if row.data == AVERAGE] == [("a", "b")]


def test_what_was_scored_by_hand_has_no_average_and_takes_none_away():
    found = rows([on("x"), on("y"), on("z", "")])
    assert [row.place for row in found] == ["src → z", "src → x", "src → y", "src → average of 2 targets"]


def test_each_seeds_own_teacher_is_one_row_and_two_teachers_of_a_seed_are_two():
    def student(seed, teacher):
        words = f"TextTokens on mini ({teacher})"
        return run("promptkd", seed=seed, options={"teacher": f'"{words}"'}, caveats=(f"external: teacher: {words}",))

    (row,) = rows([student(1, "0123456789ab"), student(2, "ba9876543210")])
    assert (row.method, row.seeds, row.caveats) == ("promptkd", (1, 2), ("external: teacher: TextTokens on mini",))
    found = rows([student(1, "0123456789ab"), student(1, "ba9876543210")])
    assert [row.method for row in found] == [
        'promptkd (teacher="TextTokens on mini (0123456789ab)")',
        'promptkd (teacher="TextTokens on mini (ba9876543210)")',
    ]


def test_what_decides_a_runs_folder_decides_its_row(tiny_clip, dataset, tmp_path):
    from cliptune.protocols import few_shot
    from cliptune.runs.spec import DECISIVE

    few_shot("zeroshot", tiny_clip, dataset, shots=2, out=tmp_path, progress="silent")
    (found,) = collect(tmp_path)
    assert set(DECISIVE) <= found.settings.keys()


def test_a_number_that_some_seeds_lack_is_not_averaged():
    (row,) = rows([run(seed=1), run(seed=2, scores={"base": 80.0})])
    assert row.mean("base") == 80
    assert row.mean("new") is None
    assert row.harmonic_mean is None


def test_the_same_run_twice_is_refused():
    with pytest.raises(ValueError, match="are the same run"):
        rows([run(), run()])


def test_runs_are_collected_at_any_depth(tiny_clip, dataset, tmp_path):
    from cliptune.protocols import base2new, few_shot

    few_shot("zeroshot", tiny_clip, dataset, shots=2, out=tmp_path / "one", progress="silent")
    base2new("zeroshot", tiny_clip, dataset, shots=2, out=tmp_path / "deep" / "two", seed=5, progress="silent")
    two, one = collect(tmp_path)
    assert (one.trained, one.seed, list(one.scores)) == ("all", 1, ["test"])
    assert (two.trained, two.seed, list(two.scores)) == ("base", 5, ["base", "new"])
    assert one.settings["select"] == "last"
    (without_manifest(tmp_path / "one") / "result.json").write_text("{")
    with pytest.raises(ValueError, match="not readable JSON"):
        collect(tmp_path)


def test_a_transfers_run_is_a_row_for_each_target(tiny_clip, dataset, tmp_path):
    from dataclasses import replace

    from cliptune.protocols import domain_generalization

    targets = [replace(dataset, name=name) for name in ("drawn", "seen/at night")]
    out = {"out": tmp_path / "run", "progress": "silent"}
    result = domain_generalization("zeroshot", tiny_clip, dataset, targets, shots=2, **out)
    source, drawn, night = collect(tmp_path)
    assert (source.data, source.trained_on, list(source.scores)) == ("images", "", ["test"])
    assert (drawn.data, drawn.trained_on, drawn.protocol) == ("drawn", "images", "domains")
    assert night.data == "seen/at night"
    assert drawn.settings["target split"] == dataset.split_sha256[:8]
    measured = result["evaluations"]["drawn/test"]
    for metric in ("accuracy", "macro_f1", "mean_per_class", "ece"):
        assert collect(tmp_path, metric)[1].scores == {"test": measured[metric]}
    with pytest.raises(ValueError, match="metric must be one of accuracy"):
        collect(tmp_path, "speed")


@pytest.mark.parametrize("name", ["config.yaml", "result.json"])
def test_a_damaged_run_is_named_and_costs_only_its_own_row(name, tiny_clip, dataset, tmp_path):
    from cliptune.protocols import few_shot

    for seed in (1, 2):
        few_shot("zeroshot", tiny_clip, dataset, shots=2, seed=seed, out=tmp_path / str(seed), progress="silent")
    whole = collect(tmp_path)
    path = without_manifest(tmp_path / "1") / name
    content = path.read_bytes()
    for part in (0, len(content) // 4, len(content) // 2, 3 * len(content) // 4):
        path.write_bytes(content[:part])
        skipped: list[str] = []
        assert collect(tmp_path, skipped=skipped) == whole[1:]
        assert len(skipped) == 1
        assert name in skipped[0]
        with pytest.raises(ValueError, match=name):
            collect(tmp_path)
        with pytest.raises(ValueError, match="all of its finished runs are damaged"):
            collect(tmp_path / "1", skipped=[])
    if name == "config.yaml":
        path.write_text("format: 1\nprecision: fp32\n")
        with pytest.raises(ValueError, match="is not complete: it lacks method, options"):
            collect(tmp_path)
    else:
        whole_result = json.loads(content)
        for damaged in ({**whole_result, "data": {"name": "x"}}, {**whole_result, "evaluations": {"test": 3}}):
            path.write_text(json.dumps(damaged))
            with pytest.raises(ValueError, match=r"result.json and config.yaml beside it do not hold what"):
                collect(tmp_path)
            assert collect(tmp_path, skipped=[]) == whole[1:]


def test_no_runs_is_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished run"):
        collect(tmp_path)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text("format: 1\n")
    with pytest.raises(FileNotFoundError, match="1 runs in it are not finished"):
        collect(tmp_path)


@pytest.mark.parametrize(
    ("flag", "note"),
    [
        ({"images": 80, "chose": {"C": 31.6}}, ("C chosen on 80 validation images",)),
        ({"images": 9, "chose": {"α": 1.2, "β": 3.0}}, ("α and β chosen on 9 validation images",)),
        ({"images": 0}, ()),
        ("chose α, where there were any", ("validation images chose α, where there were any",)),
    ],
)
def test_a_head_that_used_validation_images_is_shown_as_such(flag, note):
    assert caveats({"selection": "last", "validation_images": flag}, {}) == note


def test_seeds_share_the_note_on_validation_images_and_averages_leave_their_number_out():
    notes = {data: (f"C chosen on {images} validation images",) for data, images in (("a", 80), ("b", 40))}
    found = rows(run(data=data, seed=seed, caveats=notes[data]) for data in "ab" for seed in (1, 2))
    assert [row.caveats for row in found] == [notes["a"], notes["b"], ("C chosen on validation images",)]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({}, ()),
        ({"views": 4, "augmentation": True}, ("4 augmented views per image, used again",)),
        ({"views": None, "augmentation": False}, ("no augmentation",)),
        ({"augmentation": None}, ()),
        (
            {"tuned": {"options": {"lr": 0.1}, "seeds": [101, 102], "chosen_on": "validation images", "tried": 3}},
            ("lr tuned on seeds 101, 102 (validation images)",),
        ),
    ],
)
def test_what_was_done_with_the_images_and_options_is_a_caveat(flags, words):
    assert caveats({"selection": "last", **flags}, {}) == words


def test_rows_say_what_their_runs_took_if_all_of_them_say_it():
    spent = {"steps": 10, "images": 40, "seconds": 2.0, "memory": 2**30}
    both = rows([run(spent=spent), run(seed=2, spent={**spent, "seconds": 4.0})])
    assert both[0].spent == {"steps": 10, "images": 40, "seconds": 3.0, "memory": 2**30}
    assert rows([run(spent=spent), run(seed=2)])[0].spent == {}
    assert rows([run(data="a", spent=spent), run(data="b", spent={**spent, "steps": 30})])[-1].spent["steps"] == 20


def test_runs_of_another_budget_are_rows_of_their_own():
    assert [row.method for row in rows([run(settings={"steps": "100"}), run(seed=2)])] == [
        "coop (steps=100)",
        "coop (steps=none)",
    ]
