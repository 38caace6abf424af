import pytest

from cliptune.choosing import Candidate, parse_seconds, read_candidates, usual_candidates
from cliptune.cli.shared.settings import resolve


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("1.5h", 5400), ("1h30m", 5400), (" 2 M ", 120), ("1h2m3s", 3723)]
)
def test_times_are_read_with_their_units(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "5 minutes", "-5m", "0s", "m", "1m1h", "nan", "1e3s"])
def test_what_is_no_time_is_refused_in_a_sentence(text):
    with pytest.raises(ValueError, match="written with its unit, such as 90s, 5m or 1h30m"):
        parse_seconds(text)


def test_the_usual_candidates_are_methods_with_options_that_they_have():
    usual = usual_candidates()
    for candidate in (*usual.tried, *usual.beside, usual.untried):
        assigned = [f"{name}={value}" for name, value in {**candidate.options, **candidate.training}.items()]
        settings = resolve(candidate.method, assignments=assigned)
        assert settings.options == dict(candidate.options)
        assert settings.training == dict(candidate.training)
    assert {one.method for one in usual.beside} <= {one.method for one in usual.tried}


def test_a_candidate_is_told_with_what_is_not_its_default():
    assert Candidate("coop").title == "coop"
    assert Candidate("coop", {"n_ctx": 2}, {"views": 4}).title == "coop (n_ctx=2, views=4)"


@pytest.mark.parametrize("content", ["[[tried]\n", '[[tried]]\nmethod = "coop"\n', '[[tried]]\nname = "coop"\n'])
def test_a_file_that_is_none_is_refused(tmp_path, content):
    path = tmp_path / "mine.toml"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"mine\.toml: expected \[\[tried\]\]"):
        read_candidates(path)
