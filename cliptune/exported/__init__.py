"""Exported classifiers where torch is not installed: reading pictures, and answering with onnxruntime."""

from cliptune.exported.classifier import ExportedClassifier
from cliptune.exported.description import Description
from cliptune.exported.onnx import OnnxClassifier
from cliptune.exported.pictures import pixels

__all__ = ["Description", "ExportedClassifier", "OnnxClassifier", "pixels"]
