from __future__ import annotations

import os

import pytest

from cliptune.data.own.finder import Finder, common_root, local_part, pictures_below
from cliptune.data.own.rows import Row
from tests.data.pictures import write_classes


@pytest.fixture
def finder(tmp_path):
    write_classes(tmp_path / "pics", {"a": 2, "b": 1}, ".png")
    write_classes(tmp_path, {"deep/x/y": 1}, ".JPG")
    return Finder(tmp_path, "List", uploads=True)


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        ("pics/a/p01.png", "pics/a/p01.png"),
        ("pics\\a\\p01.png", "pics/a/p01.png"),
        ("./pics/a/p01.png", "pics/a/p01.png"),
        ("p01.png", "pics/a/p01.png"),
        ("p01", "pics/a/p01.png"),
        ("a/p01", "pics/a/p01.png"),
        ("y/p00", "deep/x/y/p00.JPG"),
        ("b/p00.png", "pics/b/p00.png"),
        ("a/p02", None),
        ("c/p01.png", None),
        ("/other/machine/pics/b/p00.png", "pics/b/p00.png"),
        ("/other/machine/b/p00.png", "pics/b/p00.png"),
        ("D:\\data\\pics\\b\\p00.png", "pics/b/p00.png"),
        ("s3://bucket/pics/b/p00.png", "pics/b/p00.png"),
        ("https://host/x/y/p00.JPG?sig=1", "deep/x/y/p00.JPG"),
        ("/data/local-files/?d=pics%2Fb%2Fp00.png", "pics/b/p00.png"),
        ("/data/upload/3/0a1b2c3d-p01.png", "pics/a/p01.png"),
        ("/data/upload/3/0a1b2c3-p01.png", None),
    ],
)
def test_references(finder, reference, path):
    assert finder.find(reference, "row 1") == path
    assert finder.has(reference) is (path is not None)


@pytest.mark.parametrize("reference", ["p00.png", "p00", "/x/p00.png"])
def test_what_fits_several_pictures_is_refused(finder, reference):
    assert finder.has(reference)
    with pytest.raises(ValueError, match=r"row 1: .* fits \d pictures below .*--root"):
        finder.find(reference, "row 1")


@pytest.mark.parametrize("reference", ["../pics/a/p01.png", "pics/../pics/a/p01.png", ""])
def test_what_climbs_out_is_refused(finder, reference):
    assert not finder.has(reference)
    with pytest.raises(ValueError, match="row 1"):
        finder.find(reference, "row 1")


def test_addresses_do_not_climb_out(finder):
    assert finder.find("https://host/../../pics/b/p00.png", "row 1") == "pics/b/p00.png"
    assert finder.find("/data/local-files/?d=../../../etc/passwd", "row 1") is None


def test_digits_before_a_name_are_taken_off_for_tools_that_put_them_there(tmp_path):
    write_classes(tmp_path, {"a": 1})
    assert Finder(tmp_path, "List").find("/data/upload/3/0a1b2c3d-p00.png", "row 1") is None


def test_links_are_followed_and_end(tmp_path):
    write_classes(tmp_path, {"a": 1})
    os.symlink(tmp_path, tmp_path / "a" / "up")
    os.symlink(tmp_path / "a", tmp_path / ".hidden")
    assert pictures_below(tmp_path, "List") == ["a/p00.png"]


def test_the_common_root_of_absolute_paths(tmp_path):
    write_classes(tmp_path / "pics", {"a": 1, "b": 1})

    def rows(*paths):
        return [Row("", str(path), "", None) for path in paths]

    one, other = tmp_path / "pics/a/p00.png", tmp_path / "pics/b/p00.png"
    assert common_root(rows(one, other), tmp_path / "lists") == tmp_path / "pics"
    assert common_root(rows(one), tmp_path / "lists") == tmp_path / "pics/a"
    assert common_root(rows(one, other), tmp_path) is None
    assert common_root(rows(one, "b/p00.png"), tmp_path / "lists") is None
    assert common_root(rows(one, tmp_path / "gone.png"), tmp_path / "lists") is None


@pytest.mark.parametrize(
    ("reference", "local"),
    [("a/b.png", None), ("/a/b.png", "/a/b.png"), ("C:\\b.png", "C:/b.png"), ("xy://[bad/b.png", None), ("c:d", "c:d")],
)
def test_which_references_are_of_another_place(reference, local):
    assert local_part(reference) == local
