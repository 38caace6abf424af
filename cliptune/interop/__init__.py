"""Checkpoints of the field's released code, both ways."""

from cliptune.interop.published import from_published, read_published, to_published

__all__ = ["from_published", "read_published", "to_published"]
