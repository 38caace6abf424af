from __future__ import annotations

import json

import pytest

from cliptune.data.items import SPLITS
from cliptune.data.own.lists import read_list
from tests.data.pictures import noise, write_classes


@pytest.fixture
def root(tmp_path):
    write_classes(tmp_path / "pics", {"a": 10, "b": 5})
    return tmp_path


def write(root, text, name="list.csv"):
    (root / name).write_text(text, encoding="utf-8")
    return root / name


ROWS = [(f"pics/a/p{i:02d}.png", "red_fox", "train" if i < 6 else "test") for i in range(10)] + [
    (f"pics/b/p{i:02d}.png", "Puma", "train" if i < 3 else "Validation") for i in range(5)
]


@pytest.mark.parametrize("columns", [("image", "label", "split"), ("path", "class", "split")])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_lists_with_splits_keep_their_order(root, columns, kind):
    if kind == "csv":
        text = "\ufeff" + ",".join(columns) + "\r\n" + "".join(f'"{p}",{c},{s}\r\n' for p, c, s in ROWS) + "\r\n"
    else:
        text = "\n".join(json.dumps(dict(zip(columns, row, strict=True))) for row in ROWS) + "\n\n"
    data = read_list(write(root, text, f"animals.{kind}"))
    assert (data.name, data.class_names) == ("animals", ("Puma", "red fox"))
    expected = {"train": ROWS[:6] + ROWS[10:13], "val": ROWS[13:], "test": ROWS[6:10]}
    for split in SPLITS:
        assert list(data[split].ids) == [path for path, _, _ in expected[split]]
        assert data[split].labels.tolist() == [int(name == "red_fox") for _, name, _ in expected[split]]
    assert data.train.image(0).tobytes() == noise(0).tobytes()


def test_lists_without_splits_are_split_here(root):
    text = "image,label\n" + "".join(f"{p},{c}\n" for p, c, _ in ROWS)
    data = read_list(write(root, text))
    assert [data[split].count() for split in SPLITS] == [{1: 5, 0: 2}, {1: 2, 0: 1}, {1: 3, 0: 2}]
    assert "there is no split column" in data.notes[0]


def test_paths_may_be_relative_to_another_root(root):
    lists = root / "lists"
    lists.mkdir()
    path = write(lists, "path,class\na/p00.png,fox\nb\\p00.png,puma\n")
    data = read_list(path, root / "pics", fractions=(1, 0, 0))
    assert data.train.ids == ("a/p00.png", "b/p00.png")


def test_a_json_line_ends_at_its_line_feed(root):
    line = json.dumps({"image": "pics/a/p00.png", "class": "fox\u2028red"}, ensure_ascii=False)
    assert read_list(write(root, line, "list.jsonl")).class_names == ("fox red",)


@pytest.mark.parametrize("value", [True, 1.5, ["fox"], {"name": "fox"}])
def test_values_that_are_no_texts_are_refused(root, value):
    line = json.dumps({"image": "pics/a/p00.png", "class": value})
    with pytest.raises(ValueError, match="line 1: expected texts, got"):
        read_list(write(root, line, "list.jsonl"))


def test_what_a_screen_would_obey_stands_escaped_in_the_sentence(root):
    with pytest.raises(FileNotFoundError, match=r"not below .*: \\x1b\[31m\.png\. Put"):
        read_list(write(root, "image,label\n\x1b[31m.png,fox\n"))


def test_numbers_as_classes_are_pointed_out(root):
    data = read_list(write(root, "image,label\npics/a/p00.png,0\npics/a/p01.png,1\n"))
    assert "classes are numbers" in data.notes[-1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image,label\n../x.png,fox\n", r"line 2: the path '\.\./x\.png' leaves the root"),
        ("image,label\n/etc/x.png,fox\n", "leaves the root"),
        ("image,label\nC:\\x.png,fox\n", "leaves the root"),
        ("image,label\n,fox\n", "line 2: the path is blank"),
        ("image,label\npics/a/p00.png, \n", "line 2: the class is blank"),
        ("image,label\npics/a/p00.png,_\n", "a class name is blank"),
        ("image,label,colour\n", "line 1: unknown column 'colour'"),
        ("image,path,label\n", r"expected one column image \(or path\), got 2"),
        ("image\n", r"expected one column class \(or label\), got 0"),
        ("", "expected one column image"),
        ("image,label\n", "the list has no rows"),
        ("image,label\npics/a/p00.png,fox,red\n", "line 2: expected 2 values"),
        ('image,label\n"pics/a/p00.png,fox\n', "no valid CSV"),
        ("image,label,split\npics/a/p00.png,fox,dev\n", "split must be train, val or test, got 'dev'"),
        ("image,label,split\npics/a/p00.png,fox,\n", "split must be train, val or test, got ''"),
        ("image,label,split\npics/a/p00.png,fox,test\n", "1 classes have no training picture: fox"),
        (
            "image,label\npics/a/p00.png,fox\npics/a/./p00.png,cat\n",
            r"line 3: .* already listed \(.*line 2\)",
        ),
        ("image,label\npics/a/p00.png,Red_Fox\npics/a/p01.png,red fox\n", "are both read as 'red fox'"),
    ],
)
def test_wrong_csv_gets_a_sentence_with_the_line(root, text, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_list(write(root, text))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"image": "pics/a/p00.png", "class": "fox"}\n{"image": ', "line 2: expected a JSON object, but"),
        ("[1]\n", "line 1: expected a JSON object with image and class, got list"),
        ('{"image": "pics/a/p00.png", "class": null}\n', "the class is blank"),
        ('{"image": "pics/a/p00.png", "klass": "fox"}\n', "unknown column 'klass'"),
        (
            '{"image": "pics/a/p00.png", "class": "fox", "split": "train"}\n'
            '{"image": "pics/a/p01.png", "class": "fox"}\n',
            "some rows have a split",
        ),
    ],
)
def test_wrong_jsonl_gets_a_sentence_with_the_line(root, text, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_list(write(root, text, "list.jsonl"))


def test_missing_pictures_are_listed(root):
    text = "image,label\npics/a/p00.png,fox\n" + "".join(f"pics/gone{i}.png,fox\n" for i in range(7))
    with pytest.raises(FileNotFoundError, match=r"7 listed pictures are not below .*gone4\.png and 2 more"):
        read_list(write(root, text))


def test_missing_lists_and_other_encodings_are_refused(root):
    with pytest.raises(FileNotFoundError, match="found nothing"):
        read_list(root / "absent.csv")
    (root / "latin.csv").write_bytes("image,label\na.png,café\n".encode("latin-1"))
    with pytest.raises(ValueError, match="Save it as UTF-8"):
        read_list(root / "latin.csv")
    with pytest.raises(ValueError, match=r"got '\.xls'"):
        read_list(write(root, "x", "list.xls"))
