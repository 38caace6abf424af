from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from cliptune.protocols.tables import AVERAGE, Finished, collect, rows


def run(method: str = "coop", data: str = "a", seed: int = 1, **more) -> Finished:
    settings = {"n_ctx": "4", "select": "last", "split": "12ab", **more.pop("settings", {})}
    scores = more.pop("scores", {"base": 80.0, "new": 60.0})
    values = {"backbone": "mini", "trained": "base", "shots": 16, "learnables": 2048, **more}
    return Finished(
        Path(f"{data}/{method}-{seed}"), method, data, seed=seed, scores=scores, settings=settings, **values
    )


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


@pytest.mark.parametrize(
    ("other", "labels"),
    [
        ({"settings": {"select": "val"}}, ["coop (select=last)", "coop (select=val)"]),
        ({"settings": {"split": "34cd"}}, ["coop (split=12ab)", "coop (split=34cd)"]),
        ({"settings": {"n_ctx": "16"}}, ["coop (n_ctx=4)", "coop (n_ctx=16)"]),
        ({"backbone": "RN50"}, ["coop (mini)", "coop (RN50)"]),
        ({"trained": "all"}, ["coop (base classes)", "coop (all classes)"]),
        ({"shots": 1}, ["coop", "coop"]),
    ],
)
def test_runs_that_differ_in_more_than_the_seed_are_kept_apart(other, labels):
    found = rows([run(seed=1), run(seed=2, **other)])
    assert [row.method for row in found] == labels
    assert all(len(row.seeds) == 1 for row in found)


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
    (tmp_path / "one" / "result.json").write_text("{")
    with pytest.raises(ValueError, match="not readable JSON"):
        collect(tmp_path)


def test_no_runs_is_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished run"):
        collect(tmp_path)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text("format: 1\n")
    with pytest.raises(FileNotFoundError, match="1 runs in it are not finished"):
        collect(tmp_path)
