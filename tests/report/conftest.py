"""The runs that explanations are tested on."""

from tests.explain.conftest import opened, runs

__all__ = ["opened", "runs"]
