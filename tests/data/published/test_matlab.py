"""MATLAB's files against SciPy's writer."""

from __future__ import annotations

import io

import numpy as np
import pytest
from scipy.io import savemat

from cliptune.data.published.annotations import mat_fields, mat_numbers, mat_texts
from cliptune.data.published.matlab import read_mat


def written(packed: bool = False, **variables: object) -> bytes:
    content = io.BytesIO()
    savemat(content, variables, do_compression=packed)
    return content.getvalue()


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_written_is_read(packed):
    numbers = {kind: np.arange(6).reshape(2, 3).astype(kind) for kind in ("u1", "i2", "u4", "f4", "f8", "i8")}
    found = read_mat(written(packed, **numbers, words=np.array(["a", "élan", ""], object), text="two words"))
    for kind, value in numbers.items():
        assert (found[kind].kind, found[kind].shape) == ("numbers", (2, 3))
        assert found[kind].values == value.ravel("F").tolist()
    assert [cell.values for cell in found["words"].values] == [["a"], ["élan"], []]
    assert found["text"].values == ["two words"]


@pytest.mark.parametrize("packed", [False, True])
def test_structures_are_read_field_by_field(tmp_path, packed):
    rows = np.array([("a.jpg", 3), ("b.jpg", 1)], dtype=[("fname", object), ("class", object)])
    (tmp_path / "x.mat").write_bytes(written(packed, annotations=rows, names=np.array(["x", "y"], object), n=[[3, 1]]))
    path = tmp_path / "x.mat"
    assert mat_fields(path, "annotations", ("class", "fname"), "x") == [(3, "a.jpg"), (1, "b.jpg")]
    assert mat_texts(path, "names", "x") == ["x", "y"]
    assert mat_numbers(path, "n", "x") == [3, 1]
    for read, name in ((mat_texts, "n"), (mat_numbers, "names")):
        with pytest.raises(ValueError, match=f"the variable '{name}' of .* should be of the kind"):
            read(path, name, "x")
    with pytest.raises(ValueError, match="has no field 'colour'"):
        mat_fields(path, "annotations", ("colour",), "x")


def test_whole_numbers_are_asked_for(tmp_path):
    (tmp_path / "x.mat").write_bytes(written(n=[[1.0, 2.5]], zero=[[0]]))
    with pytest.raises(ValueError, match=r"expected whole numbers from 1, got 2\.5"):
        mat_numbers(tmp_path / "x.mat", "n", "x")
    with pytest.raises(ValueError, match="expected whole numbers from 1, got 0"):
        mat_numbers(tmp_path / "x.mat", "zero", "x")


def test_files_that_are_cut_off_are_sentences(tmp_path):
    content = written(True, n=np.arange(1, 200))
    for length in (0, 100, 130, len(content) - 9):
        (tmp_path / "x.mat").write_bytes(content[:length])
        with pytest.raises(ValueError, match="cannot be read as a MATLAB file|has no variable"):
            mat_numbers(tmp_path / "x.mat", "n", "x")
