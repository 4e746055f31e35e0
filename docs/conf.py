"""How the documentation is built: ``make docs``, warnings as errors."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
_core = tomllib.loads((ROOT / "core" / "pyproject.toml").read_text())["project"]

project = "Caraway"
author = copyright = "The Caraway developers"
version = release = _core["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"Caraway {release}"
html_show_sphinx = False
html_show_sourcelink = False
