from __future__ import annotations

import re
from collections import Counter

import pytest

from cliptune.data.catalog import ENTRIES, data_group, list_data
from cliptune.data.own.naming import class_name
from cliptune.data.published.facts import facts, published
from cliptune.data.published.own_split import underscored, year_first
from cliptune.data.splits import base_or_new

# C, base and new classes, and the counts of train, val, test as the papers give them.
TABLE = {
    "imagenet": (1000, 500, 500, 1_281_167, 0, 50_000),
    "caltech101": (100, 50, 50, 4_128, 1_649, 2_465),
    "oxford_pets": (37, 19, 18, 2_944, 736, 3_669),
    "stanford_cars": (196, 98, 98, 6_509, 1_635, 8_041),
    "oxford_flowers": (102, 51, 51, 4_093, 1_633, 2_463),
    "food101": (101, 51, 50, 50_500, 20_200, 30_300),
    "fgvc_aircraft": (100, 50, 50, 3_334, 3_333, 3_333),
    "sun397": (397, 199, 198, 15_880, 3_970, 19_850),
    "dtd": (47, 24, 23, 2_820, 1_128, 1_692),
    "eurosat": (10, 5, 5, 13_500, 5_400, 8_100),
    "ucf101": (101, 51, 50, 7_639, 1_898, 3_783),
}


@pytest.mark.parametrize("name", TABLE)
def test_counts_and_halves_are_the_published_ones(name):
    known = published()[name]
    classes, n_base, n_new, *counts = TABLE[name]
    assert (known.classes, list(known.counts.values())) == (classes, counts)
    assert len(base_or_new(range(known.classes), "base")) == n_base
    assert len(base_or_new(range(known.classes), "new")) == n_new
    assert sum(known.base_new_test) == known.counts["test"]


def test_variants_of_imagenet_have_only_test_pictures():
    tests = {name: published()[name].counts["test"] for name in data_group("shifts4")}
    assert tests == {"imagenetv2": 10_000, "imagenet_sketch": 50_889, "imagenet_a": 7_500, "imagenet_r": 30_000}


def test_what_is_not_verified_is_not_claimed():
    assert published()["resisc45"].counts == {}


@pytest.mark.parametrize("known", published().values(), ids=lambda known: known.name)
def test_facts_are_complete(known):
    assert known.template.count("{}") == 1
    assert all(template.count("{}") == 1 for template in (*known.other_templates.values(), *known.ensemble))
    assert known.sources
    assert known.split_sha256 is None or re.fullmatch("[0-9a-f]{64}", known.split_sha256)
    assert (known.split_file is None) == (known.split_from is None) == (known.fallback is None)


def test_every_spelling_means_one_data_set():
    spellings = Counter(spelling for entry in ENTRIES for spelling in {entry.name, *entry.aliases})
    assert [spelling for spelling, n in spellings.items() if n > 1] == []
    for written, name in (("OxfordPets", "oxford_pets"), ("DescribableTextures", "dtd"), ("fgvc", "fgvc_aircraft")):
        assert facts(written).name == name
    for written in ("ImageNetV2", "ImageNet-Sketch", "ImageNetA", "imagenet-r", "OxfordFlowers", "FGVCAircraft"):
        assert facts(written).name in published()
    with pytest.raises(ValueError, match="'mnist' is no published data set"):
        facts("mnist")


def test_groups_stand_for_their_members():
    assert set(data_group("all11")) == set(TABLE)
    assert data_group("cross10") == [name for name in data_group("ALL11") if name != "imagenet"]
    assert set(data_group("vr11")) == set(TABLE) - {"imagenet"} | {"resisc45"}
    assert data_group("tinyworld/objects") == ["tinyworld/objects"]
    assert set(data_group("all11")) <= {row["name"] for row in list_data()}


def test_names_are_turned_as_in_the_field():
    assert underscored("YoYo") == "Yo_Yo"
    assert underscored("HandstandPushups") == "Handstand_Pushups"
    assert year_first("Acura RL Sedan 2012") == "2012 Acura RL Sedan"
    assert class_name(published()["sun397"].first_new_class) == "outdoor ice skating rink"
