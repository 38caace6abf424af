"""Files that are no export of ours; what answers is compared in tests/exporting."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from onnx import TensorProto, helper

from cliptune.exported import Description, OnnxClassifier
from cliptune.exported.description import KEY

TOLD = Description(("a", "b"), 4)


def model(description: str | None, inside: tuple[int, ...] = (3, 4, 4), classes: int = 2) -> bytes:
    """Mean over the pixels, once for each class."""
    entry = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", *inside])
    out = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", classes])
    ones = helper.make_tensor("ones", TensorProto.FLOAT, [3 * 16, classes], [1 / 48 / 255 / classes] * 48 * classes)
    nodes = [
        helper.make_node("Cast", ["images"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["f"], ["flat"]),
        helper.make_node("MatMul", ["flat", "ones"], ["probabilities"]),
    ]
    made = helper.make_model(
        helper.make_graph(nodes, "g", [entry], [out], [ones]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    if description is not None:
        made.metadata_props.add(key=KEY, value=description)
    return made.SerializeToString()


def test_an_onnx_file_answers_as_its_graph_says(tmp_path):
    (tmp_path / "model.onnx").write_bytes(model(TOLD.text))
    found = OnnxClassifier(tmp_path / "model.onnx")
    assert found.class_names == ("a", "b")
    answer = found.probabilities(np.full((3, 3, 4, 4), 255, np.uint8))
    np.testing.assert_allclose(answer, np.full((3, 2), 0.5), rtol=1e-6)
    for wrong in (np.zeros((1, 3, 5, 4), np.uint8), np.zeros((3, 4, 4), np.uint8), np.zeros((1, 3, 4, 4), np.float32)):
        with pytest.raises(ValueError, match=r"must be uint8 of shape \(B, 3, 4, 4\)"):
            found.probabilities(wrong)
    with pytest.raises(ValueError, match="at least one picture"):
        found.probabilities([])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "not a whole ONNX model"),
        (b"something", "not a whole ONNX model"),
        (model(TOLD.text)[:200], "not a whole ONNX model"),
        (model(None), "says nothing of its classes"),
        (model("{}"), "description cannot be read"),
        (model(Description(("a", "b", "c"), 4).text), "does not fit its description of 3 classes"),
        (model(Description(("a", "b"), 5).text), "pictures of 5 pixels"),
    ],
)
def test_another_file_is_a_sentence(tmp_path, content, sentence):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        OnnxClassifier(tmp_path / "model.onnx")


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no ONNX file"):
        OnnxClassifier(tmp_path / "model.onnx")
    (tmp_path / "model.onnx").write_bytes(model(TOLD.text))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"pip install 'cliptune\[onnx\]'"):
        OnnxClassifier(tmp_path / "model.onnx")
