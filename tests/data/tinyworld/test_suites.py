"""Suites: fixed pictures, honest labels, descriptions, errors."""

import copy
import pickle

import pytest
import torch

from cliptune.data import load_data
from cliptune.data.items import Split
from cliptune.data.tinyworld.scene import ATTRIBUTES
from cliptune.data.tinyworld.suites import classes_of, images_of, list_suites, load_suite, masks_of, suites


def test_picture_does_not_depend_on_pool_or_order():
    small = load_suite("objects", train=2, val=0, test=0)
    large = load_suite("objects", train=5, val=1, test=1)
    some = [23, 3, 17]
    assert torch.equal(images_of(small.train, some), images_of(large.train, some))
    assert [small.train.ids[i] for i in some] == [large.train.ids[i] for i in some]
    assert torch.equal(images_of(large.train, [17]), images_of(small.train, [17]))
    assert torch.equal(masks_of(small.train, some), masks_of(large.train, some))


def test_seed_and_split_change_the_pictures():
    one = load_suite("objects", train=1, val=1, test=1)
    other = load_suite("objects", seed=7, train=1, val=1, test=1)
    assert not torch.equal(images_of(one.train, [0]), images_of(other.train, [0]))
    assert not torch.equal(images_of(one.train, [0]), images_of(one.test, [0]))
    assert one.train.ids[0] == "tinyworld/objects/train/000000"
    assert other.train.ids[0] != one.train.ids[0]


@pytest.mark.parametrize("name", suites())
def test_pictures_show_what_their_class_says(name):
    suite = load_suite(name, train=3, val=0, test=0)
    attributes = suite.train.source.attributes(range(len(suite.train)))
    for class_name, allowed in classes_of(name).items():
        rows = suite.train.labels == suite.class_names.index(class_name)
        assert int(rows.sum()) == 3 if name != "longtail" else 1 <= int(rows.sum()) <= 3
        for attribute, values in allowed.items():
            shown = {ATTRIBUTES[attribute][i] for i in attributes[attribute][rows].tolist()}
            assert shown <= set(values)


@pytest.mark.parametrize("name", suites())
def test_descriptions_cover_every_class_in_every_cause(name):
    suite = load_suite(name, train=1, val=0, test=0)
    assert suite.descriptions
    for by_class in suite.descriptions.values():
        assert set(by_class) == set(suite.class_names)
        for sentences in by_class.values():
            assert len(set(sentences)) == len(sentences) >= 1
            assert all("{" not in sentence and " a a" not in sentence for sentence in sentences)


@pytest.mark.parametrize("cause", ["shape", "colour", "texture"])
def test_one_cause_suites_fix_that_cause_alone(cause):
    classes = classes_of(f"one_cause_{cause}")
    values = [tuple(allowed[cause]) for allowed in classes.values()]
    assert len(set(values)) == len(values)
    others = {tuple(sorted((k, tuple(v)) for k, v in allowed.items() if k != cause)) for allowed in classes.values()}
    assert len(others) == 1


def test_load_data_samples_and_cuts_a_suite():
    data = load_data("tinyworld/textures", shots=2, seed=1, classes="new", train=4, val=2, test=2)
    assert len(data.class_names) == 5
    assert len(data.train) == 10
    assert data.descriptions["texture"][data.class_names[0]]
    whole = load_data("tinyworld/textures", train=4, val=2, test=2)
    position = whole.train.ids.index(data.train.ids[0])
    assert torch.equal(images_of(data.train, [0]), images_of(whole.train, [position]))
    assert torch.equal(masks_of(data.train, [0]), masks_of(whole.train, [position]))


def test_image_of_a_split_is_the_drawn_one():
    suite = load_suite("layout", train=1, val=0, test=0)
    picture = torch.frombuffer(bytearray(suite.train.image(4).tobytes()), dtype=torch.uint8).view(64, 64, 3)
    assert torch.equal(picture.permute(2, 0, 1).float() / 255, images_of(suite.train, [4])[0])


def test_a_suite_travels_between_processes_without_its_pixels():
    suite = load_suite("flowers", train=2, val=0, test=0)
    before = images_of(suite.train, [5])
    data = pickle.dumps(suite.train.source)
    assert len(data) < 20_000
    again = Split(suite.train.items, pickle.loads(data))
    assert torch.equal(images_of(again, [5]), before)
    assert torch.equal(images_of(copy.deepcopy(again), [5]), before)


def test_every_suite_says_what_it_shows():
    assert set(list_suites()) == set(suites())
    assert all(len(text) > 10 for text in list_suites().values())


def test_errors_are_sentences():
    with pytest.raises(ValueError, match="It has: objects"):
        load_suite("object")
    with pytest.raises(ValueError, match="at least 0"):
        load_suite("objects", train=-1)
    with pytest.raises(ValueError, match="unknown domain"):
        load_suite("objects", domain="fog")
    plain = Split.of_images(torch.zeros(1, 3, 8, 8), [0], ["a"])
    with pytest.raises(ValueError, match="exact masks"):
        masks_of(plain, [0])


def test_a_suites_name_may_say_its_domain():
    sketch = load_data("tinyworld/objects-sketch", train=0, val=0, test=1)
    assert (sketch.name, sketch.domain) == ("tinyworld/objects-sketch", "sketch")
    plain = load_suite("objects", domain="sketch", train=0, val=0, test=1)
    assert torch.equal(images_of(sketch.test, [0]), images_of(plain.test, [0]))
    with pytest.raises(ValueError, match="unknown domain 'fog'"):
        load_data("tinyworld/objects-fog")
    with pytest.raises(ValueError, match="Say it once"):
        load_suite("objects-night", domain="sketch")


def test_a_long_tail_falls_in_equal_ratios_and_leaves_validation_and_test_even():
    suite = load_suite("longtail", train=100, val=2, test=2)
    counts = torch.bincount(suite.train.labels).tolist()
    assert counts == [round(100 * 0.05 ** (c / 11)) for c in range(12)]
    assert torch.bincount(suite.val.labels).tolist() == torch.bincount(suite.test.labels).tolist() == [2] * 12
    whole = load_suite("longtail", train=20, val=0, test=0)
    assert set(whole.train.ids) < {f"tinyworld/longtail/train/{i:06d}" for i in range(240)}


def test_backdrops_mislead_in_training_and_not_in_testing():
    suite = load_suite("backdrops", train=60, val=0, test=60)

    def own(split: Split) -> float:
        shown = split.source.attributes(range(len(split)))["background"]
        return float((shown == split.labels % 8).float().mean())

    assert own(suite.train) == pytest.approx(8 / 9 + 1 / 72, abs=0.05)  # 8 of 9 draws, and an eighth of the rest
    assert own(suite.test) == pytest.approx(1 / 8, abs=0.05)


def test_pictures_of_mixed_quality_keep_their_own_domain_whatever_is_drawn_beside_them():
    mixed = load_suite("snapshots", train=2, val=0, test=4)
    again = load_suite("snapshots", train=0, val=0, test=9)
    some = [40, 3, 17, 29]
    assert torch.equal(images_of(mixed.test, some), images_of(again.test, some))
    sharp = load_suite("snapshots", train=0, val=0, test=4, domain="photo")
    changed = (images_of(mixed.test, range(48)) != images_of(sharp.test, range(48))).flatten(1).any(dim=1)
    assert 0.6 < float(changed.float().mean()) < 1  # a fifth of them stay sharp
    assert torch.equal(masks_of(mixed.test, some), masks_of(sharp.test, some))


def test_a_domain_that_is_asked_for_takes_the_place_of_the_suites_own():
    asked = load_suite("moved", train=0, val=0, test=1, domain="sketch")
    assert torch.equal(images_of(asked.test, [5]), images_of(load_suite("moved-sketch", test=1).test, [5]))
    assert not torch.equal(images_of(asked.test, [5]), images_of(load_suite("moved-photo", test=1).test, [5]))
    assert asked.name == "tinyworld/moved-sketch"
