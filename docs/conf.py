"""How Sphinx builds the site: `make site`. Nothing is fetched while it builds."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # `docstrings`, and this checkout before any installed cliptune

from cliptune.version import __version__  # noqa: E402

project = "cliptune"
release = version = __version__
copyright = "the authors of cliptune; MIT licence"
extensions = ["myst_parser", "sphinx.ext.autodoc", "docstrings"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
highlight_language = "bash"  # of indented blocks, which are command lines
smartquotes = False  # "--set" is no dash

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"cliptune {__version__}"
html_show_sphinx = False
