from pathlib import Path

import pytest

from cliptune.features import FeatureStore, opened, usual_store
from cliptune.features.place import folder


def test_the_folder_is_where_it_was_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPTUNE_FEATURES", str(tmp_path / "own"))
    assert usual_store().folder == tmp_path / "own"
    monkeypatch.delenv("CLIPTUNE_FEATURES")
    monkeypatch.setenv("CLIPTUNE_CACHE", str(tmp_path / "ours"))
    assert folder() == tmp_path / "ours" / "features"
    monkeypatch.delenv("CLIPTUNE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert folder() == tmp_path / "cache" / "cliptune" / "features"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder() == Path(tmp_path) / ".cache" / "cliptune" / "features"


def test_off_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPTUNE_FEATURES", "off")
    assert usual_store() is None
    assert opened(True) is None
    store = FeatureStore(tmp_path)
    assert opened(store) is store


@pytest.mark.parametrize(("text", "size"), [("500M", 500 * 2**20), ("1.5G", 3 * 2**29), ("12", 12), ("2 GiB", 2**31)])
def test_the_limit_is_read(monkeypatch, text, size):
    monkeypatch.setenv("CLIPTUNE_FEATURES_LIMIT", text)
    assert usual_store().limit_bytes == size


@pytest.mark.parametrize("text", ["much", "-1G", "3X"])
def test_a_limit_that_is_no_number_is_refused(monkeypatch, text):
    monkeypatch.setenv("CLIPTUNE_FEATURES_LIMIT", text)
    with pytest.raises(ValueError, match=r"500M or 20G, got"):
        usual_store()
