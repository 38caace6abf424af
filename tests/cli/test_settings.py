from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import pytest

from cliptune.cli.shared.settings import resolve, typed


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        ("4", int, 4),
        (4.0, int, 4),
        ("1e-3", float, 1e-3),
        (2, float, 2.0),
        ("", str, ""),
        ("none", int | None, None),
        (None, int | None, None),
        ("7", int | None, 7),
        ("None", str | None, None),
        ("false", str | bool, False),
        ("auto", str | bool, "auto"),
        ("YES", bool, True),
        ("0", bool, False),
        ("Middle", Literal["end", "middle"], "middle"),
        ("3", Literal[1, 3], 3),
        ("0.9,0.99", tuple[float, float], (0.9, 0.99)),
        ([1, 2, 3], tuple[int, ...], (1, 2, 3)),
        ("a,b", list[str], ["a", "b"]),
        ({"a": 1}, Mapping[str, int], {"a": 1}),
    ],
)
def test_values_are_read_as_their_type_says(value, hint, expected):
    found = typed(value, hint, "option")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        ("4.5", int, "a whole number"),
        (2.5, int, "a whole number"),
        (True, int, "a whole number"),
        ("inf", float, "a number"),
        ("perhaps", bool, "true or false"),
        (3, str, "text"),
        ("x", int | None, "a whole number or none"),
        ("1,2,3", tuple[float, float], "values separated by commas"),
        ("a=1", dict[str, int], "a mapping (in a YAML file)"),
    ],
)
def test_values_of_another_type_are_refused(value, hint, expected):
    with pytest.raises(ValueError, match=r"Option option: expected .*, got ") as caught:
        typed(value, hint, "option")
    assert expected in str(caught.value)


def test_the_last_word_counts_and_options_go_where_they_belong(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("epochs: 7\nn-ctx: 8\nviews: none\ntemplate: 'a drawing of a {}.'\n")
    settings = resolve(
        "coop", recipe="few_shot", shots=4, file=file, assignments=["views=3"], shortcuts={"epochs": 9, "lr": None}
    )
    published = {"words": "", "lr": 2e-3, "batch_size": 32}
    assert settings.options == {"n_ctx": 8, "epochs": 9, "template": "a drawing of a {}.", **published}
    assert settings.training == {"views": 3}
    assert resolve("coop", recipe="few_shot", shots=4).options["epochs"] == 100
    assert resolve("coop", recipe="few_shot", shots=4, data="ImageNet").options["epochs"] == 50


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- a\n", "got list"),
        ("a: [", "expected YAML"),
        ("n_ctx: many\n", "whole number"),
        ("n_ctx: .inf\n", "expected a whole number, got inf"),
        ("lr: 2001-99-99\n", "a value in it cannot be read"),
        ("lr: !!python/name:os.system\n", "could not determine a constructor"),
        ("options: [1]\nstages: []\n", "there is no option 'options'"),
        ('"a\\eb": 1\n', r"there is no option 'a\\\\x1bb'"),
    ],
)
def test_a_bad_settings_file_is_one_sentence(tmp_path, text, sentence):
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=sentence) as caught:
        resolve("coop", file=file)
    assert "\n" not in str(caught.value)


def test_an_empty_settings_file_changes_nothing(tmp_path):
    (tmp_path / "empty.yaml").write_text("")
    assert resolve("coop", file=tmp_path / "empty.yaml").options == {}
