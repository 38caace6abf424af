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
        ("image,label\n,fox\n", "line 2: the path is blank"),
        ("image,label\npics/a/p00.png, \n", "line 2: the class is blank"),
        ("image,label\npics/a/p00.png,_\n", "a class name is blank"),
        ("image,label,colour\n", "the list has no rows"),
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
        ("[1]\n", "entry 1: expected a JSON object with image and class, got int"),
        ('{"image": "pics/a/p00.png", "class": null}\n', "the class is blank"),
        ('{"image": "pics/a/p00.png", "kind": "fox", "age": 3}\n', r"expected one column class \(or label\), got 2"),
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
    (root / "list.xls").write_bytes(b"\xd0\xcf\x11\xe0\0")
    with pytest.raises(ValueError, match="Save it as UTF-8"):
        read_list(root / "list.xls")
    (root / "list.bin").write_bytes(b"a\0b")
    with pytest.raises(ValueError, match="got binary content"):
        read_list(root / "list.bin")


def listed(data):
    return sorted((item.path, item.class_name) for split in SPLITS for item in data[split].items)


EXPECTED = sorted((path, name.replace("_", " ")) for path, name, _ in ROWS)
STEMS = {path: f"{path[5]}x{path[-6:-4]}" for path, _, _ in ROWS}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", [True, False])
def test_separators_and_missing_headers_are_told_by_content(root, delimiter, header):
    lines = [delimiter.join(["image", "label"])] if header else []
    path = write(root, "\n".join(lines + [f"{p}{delimiter}{c}" for p, c, _ in ROWS]), "list.txt")
    data = read_list(path)
    assert listed(data) == EXPECTED
    assert any("first line is taken for a row" in note for note in data.notes) is not header
    assert listed(read_list(path, delimiter=delimiter)) == EXPECTED


def test_a_list_of_path_blank_number_as_of_caffe_is_read(root):
    data = read_list(write(root, "\n".join(f"{p} {int(c == 'Puma')}" for p, c, _ in ROWS), "train.txt"))
    assert listed(data) == sorted((p, str(int(c == "Puma"))) for p, c, _ in ROWS)


def test_the_index_column_of_pandas_and_further_columns_are_passed_over(root):
    text = ",image,label,width,seen\n" + "".join(f"{i},{p},{c},23,yes\n" for i, (p, c, _) in enumerate(ROWS))
    data = read_list(write(root, text))
    assert listed(data) == EXPECTED
    assert "list.csv: other columns were passed over: width, seen." in data.notes


def test_an_index_column_alone_is_no_class(root):
    text = "Unnamed: 0,image,breed\n" + "".join(f"{i},{p},{c}\n" for i, (p, c, _) in enumerate(ROWS))
    assert listed(read_list(write(root, text))) == EXPECTED


def test_ids_without_suffix_name_the_one_picture_of_that_name(root):
    """As in Kaggle's competitions: id,breed beside a folder of pictures."""
    (root / "train").mkdir()
    for path, stem in STEMS.items():
        (root / path).rename(root / "train" / f"{stem}.jpg")
    data = read_list(write(root, "id,breed\n" + "".join(f"{STEMS[p]},{c}\n" for p, c, _ in ROWS), "labels.csv"))
    assert listed(data) == sorted((f"train/{STEMS[p]}.jpg", c.replace("_", " ")) for p, c, _ in ROWS)
    assert any("classes are taken from the column 'breed', the only other one" in note for note in data.notes)
    assert any("15 of 15 pictures were found by their names" in note for note in data.notes)


def test_a_name_that_fits_two_pictures_is_refused(root):
    with pytest.raises(ValueError, match=r"line 2: p00 fits 2 pictures below .*: pics/a/p00.png, pics/b/p00.png\."):
        read_list(write(root, "image,label\np00,fox\n"))


def test_absolute_paths_are_read_where_they_are_and_from_another_machine(root, tmp_path):
    expected = EXPECTED
    here = write(root, "image,label\n" + "".join(f"{root / p},{c}\n" for p, c, _ in ROWS))
    assert listed(read_list(here)) == expected
    other = write(root, "image,label\n" + "".join(f"/content/drive/{p},{c}\n" for p, c, _ in ROWS))
    assert listed(read_list(other)) == expected
    windows = write(root, "image,label\n" + "".join(f"C:\\Users\\me\\{p},{c}\n".replace("/", "\\") for p, c, _ in ROWS))
    assert listed(read_list(windows)) == expected
    (root / "lists").mkdir()
    apart = write(root / "lists", "image,label\n" + "".join(f"{root / p},{c}\n" for p, c, _ in ROWS))
    data = read_list(apart)
    assert data.root == root / "pics"
    assert data.train.image(0)
    with pytest.raises(FileNotFoundError, match=r"--root"):
        read_list(write(root, "image,label\n/etc/x.png,fox\nC:\\x.png,fox\n"))


def test_columns_can_be_said(root):
    text = "a,b,c\n" + "".join(f"{p},{c},{s}\n" for p, c, s in ROWS)
    with pytest.raises(ValueError, match=r"expected one column class \(or label\), got 2 \(b, c\).*--columns"):
        read_list(write(root, text))
    data = read_list(write(root, text), columns="image=a,label=b,split=c")
    assert (listed(data), len(data.val)) == (EXPECTED, 2)
    assert listed(read_list(write(root, text), columns={"label": "b"})) == EXPECTED
    headless = write(root, "\n".join(f"{p};{c};{s}" for p, c, s in ROWS))
    assert listed(read_list(headless, columns={"image": "1", "label": "2"}, delimiter="semicolon")) == EXPECTED


def test_of_a_number_and_a_word_the_word_is_the_class(root):
    text = "file_name,label,class_name\n" + "".join(f"{p},{int(c == 'Puma')},{c}\n" for p, c, _ in ROWS)
    data = read_list(write(root, text))
    assert listed(data) == EXPECTED
    assert any("the column 'class_name', which has them in words" in note for note in data.notes)


def test_a_json_list_of_objects_is_read(root):
    text = json.dumps([{"file_name": p, "category": c, "area": 3.5} for p, c, _ in ROWS])
    assert listed(read_list(write(root, text, "list.json"))) == EXPECTED


@pytest.mark.parametrize(
    ("columns", "delimiter", "sentence"),
    [
        ("image=x", None, "there is no column 'x', which --columns asks for. The columns are image, label"),
        ("picture=image", None, "expected image=COLUMN, label=COLUMN, split=COLUMN"),
        ("image", None, "expected image=COLUMN"),
        ("image=image,image=label", None, "says one thing twice"),
        (None, "comma and blank", "--delimiter: expected one character"),
        (None, "\n", "--delimiter: expected one character"),
    ],
)
def test_wrong_columns_and_delimiters_get_a_sentence(root, columns, delimiter, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_list(write(root, "image,label\npics/a/p00.png,fox\n"), columns=columns, delimiter=delimiter)


def test_two_columns_of_one_name_are_refused(root):
    with pytest.raises(ValueError, match="two columns are called 'label'"):
        read_list(write(root, "image,label,label\npics/a/p00.png,fox,fox\n"))
