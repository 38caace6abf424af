"""`rank` of finished runs."""

from __future__ import annotations

import pytest

from cliptune import protocols
from cliptune.analysis.spectrum import spectrum
from cliptune.data import DataSpec
from cliptune.explain import OpenedRun, explain
from cliptune.runs import RunSpec, read_prompts


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "coop"
    source = DataSpec("tinyworld/objects", shots=2, seed=1, classes="base")
    options = {"epochs": 3, "rlp_rank": 1, "lr": 0.05}
    protocols.run(RunSpec("coop+rlp", source, "base2new", options=options, training={"log_prompts": True}), folder)
    return folder


def test_every_epoch_beside_its_accuracies(logged):
    run = OpenedRun.open(logged, images=30)
    answer = explain(run, ["rank"])["rank"]
    found = answer.found
    assert [name.split()[-1] for name in found.epochs] == ["0", "1", "2", "3"]
    assert set(found.accuracy) == {"base", "new", "harmonic mean"}
    assert list(answer.pictures)[:2] == ["density", "values"]
    prompt = read_prompts(logged)[-1].trained.text.tokens[0]
    assert found.over_epochs("P", "density")[-1] == pytest.approx(spectrum(prompt).density)
    # the last epoch is the finished run
    right = (run.answers().predicted == run.answers().labels).double().mean()
    assert found.accuracy["base"][-1] == pytest.approx(100 * float(right))
    # P is a frozen start plus a product of rank 1, so that the change between two epochs is of rank 2 at most
    values = found.spectra["ΔP"][-1][0].values
    assert float(values[2:].max()) < 0.01 * float(values[0])
    assert "Over 4 epochs" in answer.sentence


def test_without_a_log_the_last_prompt_is_looked_at(opened):
    answer = explain(opened("maple", images=6, depth=2), ["rank"])["rank"]
    assert answer.found.places == ("text 0", "text 1", "image 0", "image 1")
    assert "--log-prompts" in answer.sentence
    assert list(answer.pictures) == ["values"]


def test_no_matrix_is_a_sentence(opened):
    assert "No prompt matrix" in explain(opened("zeroshot"), ["rank"])["rank"].why_not
