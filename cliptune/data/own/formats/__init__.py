"""Formats that other tools write: one file each, with a `FORMAT`; `readers` finds them here by itself."""
