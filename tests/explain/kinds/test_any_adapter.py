"""Questions that can be asked of any run, and of runs that lie beside each other."""

from __future__ import annotations

import pytest

from cliptune import protocols
from cliptune.data import DataSpec
from cliptune.explain import OpenedRun, explain
from cliptune.runs import RunSpec
from tests.data.pictures import noise

ANY = ["calibration", "classes", "mistakes", "features"]


@pytest.mark.parametrize("method", ["zeroshot", "coop", "vp"])
def test_any_run_answers(opened, method):
    run = opened(method, images=24)
    answers = explain(run, ANY)
    assert all(answer.found is not None for answer in answers.values())
    assert int(answers["calibration"].found.count.sum()) == 24
    assert answers["mistakes"].found.wrong == int((~run.answers().right).sum())
    assert all(one.image in run.split().ids for one in answers["mistakes"].found.shown)
    assert answers["features"].found.images.shape == (24, 2)
    for name in ("calibration", "classes", "features"):
        assert answers[name].pictures


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    place = tmp_path_factory.mktemp("beside")
    for shots, rank in ((1, 1), (2, 1), (2, 2)):
        source = DataSpec("tinyworld/objects", shots=shots, seed=1, classes="base")
        options = {"epochs": shots, "rlp_rank": rank}
        protocols.run(RunSpec("coop+rlp", source, "base2new", options=options), place / f"{shots}-{rank}")
    return place


def test_shots_and_ranks_of_runs_beside(beside):
    answers = explain(OpenedRun.open(beside / "2-1", images=12), ["shots", "trade-off"])
    shots, trade = answers["shots"].found, answers["trade-off"].found
    assert shots.values == (1, 2)
    assert set(shots.scores) == {"base", "new"}
    assert [one.setting for one in trade.curves] == ["rlp_rank"]
    assert trade.curves[0].values == (1, 2)
    assert set(trade.curves[0].scores) == {"base", "new", "harmonic mean"}
    assert -1 <= trade.cosine <= 1
    assert "cosine of their gradients" in answers["trade-off"].sentence
    assert answers["shots"].pictures
    assert answers["trade-off"].pictures


def test_a_run_alone_says_what_is_missing(opened, tmp_path):
    run = opened("zeroshot", images=12)
    run.among = str(run.folder)
    answers = explain(run, ["shots", "trade-off"])
    assert "--among" in answers["shots"].why_not
    assert "--among" in answers["trade-off"].why_not


def test_a_run_without_its_data_answers_in_sentences(tmp_path):
    """Whatever needs pictures says that they are gone; nothing stops the other questions."""
    lines = []
    for i in range(8):
        noise(i).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{'cat' if i % 2 else 'dog'}")
    (tmp_path / "list.csv").write_text("image,class\n" + "\n".join(lines))
    data = DataSpec.found(str(tmp_path / "list.csv"))
    protocols.run(RunSpec("coop", data, options={"epochs": 1}), tmp_path / "run")
    (tmp_path / "list.csv").unlink()
    answers = explain(tmp_path / "run", images=4)
    assert answers["rank"].found is not None
    gone = [answers[name].why_not for name in (*ANY, "confusion", "grad-cam", "foreground")]
    assert all(why is not None and "list.csv" in why for why in gone), gone
