"""Rows against one method, on made-up runs with a planted difference."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from cliptune.results import compare, compare_pairs, rows
from cliptune.results.against import MEAN_OF_HMS, Comparison
from cliptune.results.formats import as_html, as_latex, as_markdown, comparison_cells, comparisons_as_csv
from cliptune.results.tables import AVERAGE, Finished
from cliptune.runs import Predictions
from cliptune.runs.predictions import write_predictions
from tests.results.test_tables import on, run

IMAGES, CLASSES = 600, 5
FAR, NEAR = 12.0, 0.0
"""Planted differences in points."""


def answered(folder: Path, chance: float, seed: int, images: str = "same", n: int = IMAGES) -> float:
    """A run's answers under "test", each right with this chance; its accuracy in %."""
    hard = np.random.default_rng(0).uniform(size=n)  # the same for all methods
    random = np.random.default_rng([seed, round(1000 * chance), sum(map(ord, str(folder.name)))])
    luck = np.where(random.uniform(size=n) < 0.7, hard, random.uniform(size=n))
    labels = torch.arange(n) % CLASSES
    predicted = torch.where(torch.from_numpy(luck < chance), labels, (labels + 1) % CLASSES)
    made = Predictions(labels, predicted, torch.full((n,), 0.5), images, images, "classes")
    folder.mkdir(parents=True)
    accuracy = 100 * (predicted == labels).double().mean().item()
    noted = {"accuracy": accuracy, "predictions": write_predictions(folder, "test", made)}
    (folder / "result.json").write_text(json.dumps({"evaluations": {"test": noted}}))
    return accuracy


@pytest.fixture
def simulated(tmp_path):
    """(method, data, seed, points above one half) → a finished run that kept its answers."""

    def made(method: str, data: str, seed: int, points: float, **more) -> Finished:
        images = more.pop("images", data)
        folder = tmp_path / f"{method}-{data}-{seed}-{len(list(tmp_path.iterdir()))}"
        accuracy = answered(folder, 0.5 + points / 100, seed, images, more.pop("n", IMAGES))
        return replace(run(method, data, seed, trained="all", scores={"test": accuracy}, **more), folder=folder)

    return made


def compared(runs, method: str = "coop") -> list[Comparison]:
    remarks: list[str] = []
    found = compare(rows(runs), method, remarks)
    assert not remarks
    return found


def both(simulated, points: float, data: str = "a", seeds=(1, 2, 3, 4), **more):
    return [simulated(m, data, seed, p, **more) for seed in seeds for m, p in (("coop", 0.0), ("maple", points))]


def test_a_planted_difference_is_found_and_none_is_not(simulated):
    (far,) = compared(both(simulated, FAR))
    (near,) = compared(both(simulated, NEAR, data="b"))
    assert far.told_apart == 1
    assert far.over_seeds.interval.low < FAR < far.over_seeds.interval.high
    assert far.over_images.low < FAR < far.over_images.high
    assert far.difference == pytest.approx(FAR, abs=4)
    assert near.told_apart == 0
    assert compared(both(simulated, FAR, data="c"), "maple")[0].told_apart == -1


def test_three_points_of_4000_images_are_found_under_five_seeds_and_nothing_is_not(simulated):
    (three,) = compared(both(simulated, 3.0, seeds=range(1, 6), n=4000))
    (none,) = compared(both(simulated, 0.0, data="b", seeds=range(1, 6), n=4000))
    for found, points in ((three, 3.0), (none, 0.0)):
        assert found.over_seeds.interval.low < points < found.over_seeds.interval.high
        assert found.over_images.low < points < found.over_images.high
    assert (three.told_apart, none.told_apart) == (1, 0)


def test_numbers_are_those_of_scipy(simulated):
    runs = both(simulated, 3.0)
    (found,) = compared(runs)
    coop, maple = ([r.scores["test"] for r in runs if r.method == m] for m in ("coop", "maple"))
    assert found.over_seeds.p == pytest.approx(stats.ttest_rel(maple, coop).pvalue)
    assert found.difference == pytest.approx(np.mean(maple) - np.mean(coop))
    only = (found.answers.only_second, found.answers.only_first)
    assert (only[0] - only[1]) / (4 * IMAGES) == pytest.approx(found.difference / 100)
    assert found.answers.p == pytest.approx(stats.binomtest(only[0], sum(only)).pvalue)


def test_averages_are_compared_over_data_sets(simulated):
    data = "abcdefg"
    runs = [one for i, name in enumerate(data) for one in both(simulated, FAR + i, name, seeds=(1, 2, 3))]
    *single, average = compared(runs)
    assert average.row.data == AVERAGE
    assert [one.row.data for one in single] == list(data)
    by_data = [one.difference for one in single]
    assert average.difference == pytest.approx(np.mean(by_data))
    assert (average.over_data.wins, average.over_data.ties, average.over_data.losses) == (7, 0, 0)
    assert average.over_data.p == pytest.approx(stats.wilcoxon(by_data).pvalue)
    per_seed = np.mean([one.differences for one in single], axis=0)
    assert average.over_seeds.p == pytest.approx(stats.ttest_1samp(per_seed, 0).pvalue)
    assert average.over_images.low < average.difference < average.over_images.high
    assert average.answers is None
    assert average.told_apart == 1


def test_few_data_sets_never_tell_averages_apart(simulated):
    *_, average = compared([one for name in "abc" for one in both(simulated, FAR, name)])
    assert average.over_data.p == pytest.approx(0.25)
    assert average.told_apart == 0


def test_p_values_are_corrected_over_all_lines(simulated):
    runs = both(simulated, 3.0) + [simulated("kgcoop", "a", seed, 0.0) for seed in (1, 2, 3, 4)]
    found = compared(runs)
    plain = sorted(one.over_seeds.p for one in found)
    adjusted = sorted(one.adjusted["seeds"] for one in found)
    assert adjusted == pytest.approx([min(1, 2 * plain[0]), max(min(1, 2 * plain[0]), plain[1])])


def test_chosen_pairs_are_those_of_the_whole_table_with_a_correction_of_their_own(simulated):
    runs = both(simulated, 3.0) + [simulated("kgcoop", "a", seed, FAR) for seed in (1, 2, 3, 4)]
    coop, kgcoop, maple = sorted(rows(runs), key=lambda row: row.host)
    found = compare_pairs([(maple, coop), (kgcoop, maple)], [])
    whole = compared(runs)
    assert [one.over_images for one in found[:1]] == [one.over_images for one in whole if one.row.host == "maple"]
    tests = [
        stats.ttest_rel(row.scores["test"], reference.scores["test"]).pvalue
        for row, reference in ((maple, coop), (kgcoop, maple))
    ]
    assert [one.over_seeds.p for one in found] == pytest.approx(tests)
    low, high = sorted(tests)
    assert sorted(one.adjusted["seeds"] for one in found) == pytest.approx([2 * low, max(2 * low, high)])


def test_a_pair_on_different_data_is_refused(simulated):
    first, second = rows([simulated("coop", data, s, 0.0) for data in "ab" for s in (1, 2)])[:2]
    with pytest.raises(ValueError, match="coop on a and coop on b: expected two rows with the same data"):
        compare_pairs([(first, second)], [])


def test_what_correction_takes_away_is_not_marked(simulated):
    """Told apart alone, but not among many lines."""
    (one,) = compared(both(simulated, FAR, seeds=(1, 2, 3)))
    assert replace(one, adjusted={**one.adjusted, "seeds": 0.051}).told_apart == 0
    assert replace(one, adjusted={"seeds": 0.049}).told_apart == 1
    assert replace(one, over_images=replace(one.over_images, low=-0.1), adjusted={"seeds": 0.01}).told_apart == 0


def test_bases_and_news_have_the_mean_of_their_harmonic_means(tmp_path):
    scores = {"coop": [(80.0, 60.0), (82.0, 58.0), (81.0, 61.0)], "maple": [(79.0, 66.0), (80.0, 68.0), (80.0, 70.0)]}
    runs = [
        run(m, "a", seed, scores={"base": b, "new": n}) for m, s in scores.items() for seed, (b, n) in enumerate(s, 1)
    ]
    remarks: list[str] = []
    base, new, hm = compare(rows(runs), "coop", remarks)
    assert [one.measure for one in (base, new, hm)] == ["base", "new", MEAN_OF_HMS]
    harmonic = {m: [2 * b * n / (b + n) for b, n in s] for m, s in scores.items()}
    assert hm.difference == pytest.approx(np.mean(harmonic["maple"]) - np.mean(harmonic["coop"]))
    assert hm.over_images is None
    # Runs of earlier versions kept no answers; what the seeds say stands.
    assert new.over_images is None
    assert new.over_seeds.p == pytest.approx(stats.ttest_rel([66, 68, 70], [60, 58, 61]).pvalue)


def test_transfers_are_compared_target_by_target(tmp_path):
    runs = [
        on(target, method=m, seed=seed, scores={"test": 50.0 + points * seed})
        for target in "xy"
        for m, points in (("coop", 0.0), ("maple", 2.0))
        for seed in (1, 2)
    ]
    found = compare(rows(runs), "coop", [])
    assert [one.row.place for one in found] == ["src → x", "src → y", "src → average of 2 targets"]
    assert all(one.difference == pytest.approx(3.0) for one in found)


def test_rows_on_different_splits_are_refused(simulated):
    runs = [simulated("coop", "a", s, 0.0) for s in (1, 2)]
    runs += [simulated("maple", "a", s, 0.0, settings={"split": "34cd"}) for s in (1, 2)]
    with pytest.raises(ValueError, match="are on different splits"):
        compare(rows(runs), "coop", [])


def test_answers_about_different_images_are_refused(simulated):
    runs = [simulated("coop", "a", s, 0.0) for s in (1, 2)]
    runs += [simulated("maple", "a", s, 0.0, images="others") for s in (1, 2)]
    with pytest.raises(ValueError, match="about different images or classes"):
        compare(rows(runs), "coop", [])


def test_one_seed_is_a_sentence_and_is_never_told_apart(simulated):
    remarks: list[str] = []
    (found,) = compare(rows(both(simulated, FAR, seeds=(1,))), "coop", remarks)
    assert "it has one seed in common with coop" in remarks[0]
    assert found.over_seeds is None
    assert found.over_images is not None
    assert found.told_apart == 0


def test_seeds_are_paired_by_number(simulated):
    runs = [simulated("coop", "a", s, 0.0) for s in (1, 2, 3)] + [simulated("maple", "a", s, FAR) for s in (2, 3, 4)]
    (found,) = compared(runs)
    assert found.seeds == (2, 3)
    with pytest.raises(ValueError, match="no seed in common"):
        compare(rows([*runs[:1], *runs[-1:]]), "coop", [])


def test_a_damaged_file_is_a_sentence_and_the_seeds_still_speak(simulated):
    runs = both(simulated, FAR)
    file = runs[0].folder / "predictions" / "test.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    remarks: list[str] = []
    (found,) = compare(rows(runs), "coop", remarks)
    assert "SHA-256 differ" in remarks[0]
    assert "there is no interval over images" in remarks[1]
    assert found.over_images is None
    assert found.over_seeds is not None


def test_names_that_fit_nothing_or_several_are_sentences():
    runs = [run("coop", seed=s, options={"n_ctx": n}) for s in (1, 2) for n in ("4", "16")]
    runs += [run("maple", seed=s) for s in (1, 2)]
    with pytest.raises(ValueError, match=r"there is no row of that method\. Give one of coop, maple"):
        compare(rows(runs), "vpt", [])
    with pytest.raises(ValueError, match=r"more than one row on a fits: 'coop \(n_ctx=4\)', 'coop \(n_ctx=16\)'"):
        compare(rows(runs), "coop", [])
    found = compare(rows(runs), "coop (n_ctx=4)", [])
    assert {one.row.method for one in found} == {"coop (n_ctx=16)", "maple"}
    remarks: list[str] = []
    compare(rows([*runs, run("vpt", shots=1)]), "maple", remarks)
    assert any("vpt on a: there is no row of maple with the same data" in sentence for sentence in remarks)


def test_every_format_shows_the_comparison(simulated):
    runs = [one for name in "ab" for one in both(simulated, FAR, name, seeds=(1, 2, 3))]
    found = compared(runs)
    headers, lines = comparison_cells(found)
    assert "mean ± sd of seeds (ddof 0)" in headers
    assert lines[0][headers.index("told apart")] == "higher"
    assert lines[-1][headers.index("wins/ties/losses")] == "2/0/0"
    markdown, latex, page = (style(headers, lines) for style in (as_markdown, as_latex, as_html))
    assert markdown.count("\n") == 4
    assert r"\dots{}" in latex
    assert "…" not in latex
    assert "<td>higher</td>" in page
    first, *_, last = csv.DictReader(io.StringIO(comparisons_as_csv(found)))
    assert float(first["difference"]) == found[0].difference
    assert float(first["seeds_p_holm"]) == found[0].adjusted["seeds"]
    assert (first["told_apart"], first["wins"], last["wins"], last["mcnemar_p"]) == ("1", "", "2", "")


def test_seeds_that_change_nothing_show_no_interval():
    runs = [run(m, "a", s, scores={"test": t}) for s in (1, 2) for m, t in (("coop", 70.0), ("maple", 72.0))]
    found = compare(rows(runs), "coop", [])
    headers, lines = comparison_cells(found)
    assert found[0].over_seeds.interval.low == -math.inf
    assert "95 % over seeds" not in headers
    assert lines[0][headers.index("told apart")] == "no"
