import io
import time

import pytest

from cliptune.features import embedding
from cliptune.heads import probe
from cliptune.registry import build
from cliptune.timing import counted, duration
from cliptune.training import evaluate, fit
from cliptune.training.progress import Bar, Lines, Silent, open_progress
from tests.training.support import recipe, squares


class Clock:
    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def test_lines_are_limited_in_rate_and_say_the_time_left(monkeypatch):
    clock, stream = Clock(monkeypatch), io.StringIO()
    lines = Lines(stream, every=10)
    lines.start(total=104, done=4)
    for second in range(1, 26):
        clock.now = second
        lines.advance("train, epoch 1 of 8")
    assert stream.getvalue().splitlines() == [
        "train, epoch 1 of 8: step 14 of 104 (13 %), 1 min 30 s left",
        "train, epoch 1 of 8: step 24 of 104 (23 %), 1 min 20 s left",
    ]


def test_minor_lines_may_be_left_out_and_others_not(monkeypatch):
    clock, stream = Clock(monkeypatch), io.StringIO()
    lines = Lines(stream, every=10)
    lines.say("epoch 1", minor=True)
    lines.say("Resuming")
    clock.now = 11
    lines.say("epoch 2", minor=True)
    lines.say("epoch 3", minor=True)
    assert stream.getvalue().splitlines() == ["Resuming", "epoch 2"]


def test_the_log_gets_every_line(tiny_clip, tmp_path):
    lines = []
    result = fit(recipe(tiny_clip), squares(), tmp_path, progress="silent", log=lines.append).result
    notes = result["notes"]
    assert lines[: len(notes)] == notes
    assert [line.split(":")[0] for line in lines[len(notes) :][:3]] == [f"train, epoch {e} of 3" for e in (1, 2, 3)]
    logged = (tmp_path / "log.txt").read_text().splitlines()
    assert [line[20:] for line in logged] == lines


def test_a_bar_counts_and_prints_nothing_of_minor_lines(capsys):
    bar = Bar()
    bar.start(10, 3)
    bar.advance("train")
    bar.say("epoch 1", minor=True)
    bar.say("[red] stays as it is")
    bar.close()
    error = capsys.readouterr().err
    assert "epoch 1" not in error
    assert "[red] stays as it is" in error


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (190, "3 min 10 s"), (7500, "2 h 5 min"), (-3, "0 s")]
)
def test_durations_in_words(seconds, text):
    assert duration(seconds) == text


def test_how_to_show_progress_is_chosen_by_name_or_terminal(monkeypatch):
    assert isinstance(open_progress("silent"), Silent)
    assert isinstance(open_progress(None), Lines)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert isinstance(open_progress(None), Bar)
    with pytest.raises(ValueError, match="progress must be 'bar', 'lines', 'silent'"):
        open_progress("loud")


def test_passes_without_steps_say_how_far_they_are_and_the_time_left(monkeypatch):
    clock, lines = Clock(monkeypatch), []
    for _ in counted(range(30), 30, "Embedding 3,000 images", lines.append):
        clock.now += 1
    assert lines == [
        "Embedding 3,000 images: 33 % done, 20 s left",
        "Embedding 3,000 images: 67 % done, 10 s left",
    ]
    assert list(counted("abc", 3, "nothing", None)) == ["a", "b", "c"]


def test_a_fit_says_how_far_images_are_embedded_and_scored(monkeypatch, tiny_clip):
    clock, said = Clock(monkeypatch), []
    plain = tiny_clip.encode_image

    def slow(*arguments):
        clock.now += 11
        return plain(*arguments)

    monkeypatch.setattr(tiny_clip, "encode_image", slow)
    monkeypatch.setattr(embedding, "READ", 8)
    probe = build("gda", tiny_clip, squares().class_names)
    run = fit(probe, squares(), progress="silent", log=said.append)
    assert [line for line in said if "Embedding" in line] == [
        "Embedding 18 images: 33 % done, 22 s left",
        "Embedding 18 images: 67 % done, 11 s left",
    ]
    shown = io.StringIO()
    evaluate(run.adapter, squares().test, progress=Lines(shown, every=10))
    assert shown.getvalue().splitlines() == [
        "scoring: step 1 of 2 (50 %), 11 s left",
        "scoring: step 2 of 2 (100 %), 0 s left",
    ]


def test_a_head_that_takes_long_says_the_time_left(monkeypatch, tiny_clip):
    clock, said = Clock(monkeypatch), []
    plain = probe.ProbeHead._batches

    def slow(*arguments):
        clock.now += 6
        return plain(*arguments)

    monkeypatch.setattr(probe.ProbeHead, "_batches", slow)
    fit(build("zs_probe", tiny_clip, squares().class_names, epochs=5), squares(), progress="silent", log=said.append)
    assert [line for line in said if "left" in line] == [
        "fit the probe: epoch 2 of 5, 18 s left",
        "fit the probe: epoch 4 of 5, 6 s left",
    ]
