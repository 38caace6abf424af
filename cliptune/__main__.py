"""`python -m cliptune`: the command line."""

from __future__ import annotations

import sys

from cliptune.cli.main import main

sys.exit(main())
