"""Embeddings of pictures by the bare image tower, computed once for all runs on a machine or a shared file system."""

from cliptune.features.embedding import View, embedded
from cliptune.features.place import opened, usual_store
from cliptune.features.store import FeatureStore, Space

__all__ = ["FeatureStore", "Space", "View", "embedded", "opened", "usual_store"]
