from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path

import pytest

from cliptune.data import load_data
from tests.data.own.formats.conftest import CLASSES, PICTURES
from tests.data.pictures import noise


def png(seed: int) -> bytes:
    file = io.BytesIO()
    noise(seed).save(file, "PNG")
    return file.getvalue()


def members(names=PICTURES, fields=("cls",), folder: str = "") -> dict[str, bytes]:
    """As webdataset 1.0.2's ShardWriter orders and calls them."""
    found: dict[str, bytes] = {}
    for i, name in enumerate(PICTURES):
        label = PICTURES[name]
        values = {"cls": str(CLASSES.index(label)), "txt": label, "json": json.dumps({"label": label, "width": 23})}
        if name in names:
            stem = folder + Path(name).stem
            found |= {f"{stem}.{field}": values[field].encode() for field in fields} | {f"{stem}.png": png(i)}
    return found


def shard(path: Path, content: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, value in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(value)
            archive.addfile(member, io.BytesIO(value))
    return path


def labels(data) -> dict[str, str]:
    return {item.path: item.class_name for s in ("train", "val", "test") for item in data[s].items}


@pytest.mark.parametrize("fields", [("cls",), ("txt",), ("json",), ("cls", "txt"), ("cls", "json", "txt")])
def test_samples_are_members_of_one_name(tmp_path, fields):
    data = load_data(shard(tmp_path / "a.tar", members(fields=fields, folder="pets/")))
    spoken = dict(zip(CLASSES, ("0", "1", "2") if fields == ("cls",) else ("lynx", "puma", "red fox"), strict=True))
    assert labels(data) == {f"a.tar/pets/{name}": spoken[label] for name, label in PICTURES.items()}
    for split in ("train", "val", "test"):
        for i, item in enumerate(data[split].items):
            assert data[split].image(i).tobytes() == noise(list(PICTURES).index(Path(item.path).name)).tobytes()


def test_shards_of_splits_in_one_folder(tmp_path):
    names = list(PICTURES)
    parts = {
        "train-000000": names[::4],
        "train-000001": names[1::4],
        "val-000000": names[2::4],
        "test-000000": names[3::4],
    }
    for name, part in parts.items():
        shard(tmp_path / f"{name}.tar", members(part, ("txt",)))
    data = load_data(tmp_path)
    assert [len(data[split]) for split in ("train", "val", "test")] == [6, 3, 3]
    assert data.train.ids == tuple(f"train-00000{i}.tar/{name}" for i in (0, 1) for name in names[i::4])
    assert data.root is None


def test_pictures_can_be_read_by_other_processes(tmp_path):
    data = load_data(shard(tmp_path / "a.tar", members()))
    again = pickle.loads(pickle.dumps(data.train))
    assert again.image(1).tobytes() == data.train.image(1).tobytes()
    assert again.digest(1) == data.train.digest(1)


def test_a_caption_beside_a_class_needs_a_word(tmp_path):
    content = members()
    content |= {name.replace(".cls", ".txt"): name.encode() for name in content if name.endswith(".cls")}
    path = shard(tmp_path / "a.tar", content)
    with pytest.raises(ValueError, match=r"cls, txt say different things.*--columns label=cls"):
        load_data(path)
    assert load_data(path, columns="label=cls").class_names == ("0", "1", "2")


@pytest.mark.parametrize("name", ["../up.png", "/etc/up.png", "a/../../up.png"])
def test_no_member_may_climb_out(tmp_path, name):
    with pytest.raises(ValueError, match="leaves the archive"):
        load_data(shard(tmp_path / "a.tar", members() | {name: png(0)}))


def test_links_are_not_followed(tmp_path):
    path = shard(tmp_path / "a.tar", members())
    with tarfile.open(path, "a") as archive:
        for kind, stem in ((tarfile.SYMTYPE, "soft"), (tarfile.LNKTYPE, "hard")):
            link = tarfile.TarInfo(f"{stem}.png")
            link.type, link.linkname = kind, "/etc/passwd"
            archive.addfile(link)
    assert len(labels(load_data(path))) == len(PICTURES)


def test_a_sample_without_a_class_is_passed_over_and_one_of_two_pictures_refused(tmp_path):
    content = members()
    del content["lynx0.cls"]
    data = load_data(shard(tmp_path / "a.tar", content))
    assert any("1 picture was passed over, since they lack a picture or 'cls': lynx0" in note for note in data.notes)
    with pytest.raises(ValueError, match="the sample lynx0 holds 2 pictures"):
        load_data(shard(tmp_path / "b.tar", content | {"lynx0.seg.png": png(3)}))


def test_cut_shards_get_a_sentence(tmp_path):
    path = shard(tmp_path / "a.tar", members())
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"WebDataset shard .*a\.tar"):
        load_data(path)
