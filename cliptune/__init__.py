"""Adapt a frozen CLIP from a few images."""
