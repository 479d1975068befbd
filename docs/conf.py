"""Sphinx settings. The tables in `generated/` are written from the code before each build; pages include them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

import tables

import nova_dpo_sdk

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "nova-dpo-sdk"
author = "The nova-dpo-sdk authors"
release = nova_dpo_sdk.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "generated"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True, "show-inheritance": True, "exclude-members": "model_config"}
napoleon_use_ivar = True
copybutton_prompt_text = "$ "
html_theme = "furo"
html_title = f"nova-dpo-sdk {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False


_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def as_restructured(_app: Sphinx, _what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Docstrings write code as Markdown does: between single backticks, and in blocks that are indented."""
    made: list[str] = []
    for line in lines:
        begins = line.startswith("    ") and made[-1:] == [""] and made[-2:-1] and not made[-2].startswith(" ")
        if begins:
            made += ["::", ""]
        made.append(_CODE.sub(r"``\1``", line))
    lines[:] = made


def with_its_colon(_app: Sphinx, what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Napoleon takes `Refused: nothing is sent.` for a description of the type `Refused`; it is one sentence."""
    typed = next((line for line in lines if line.startswith(":type: ")), None)
    if what in ("attribute", "data", "property") and typed is not None:
        lines.remove(typed)
        lines[0] = f"{typed.removeprefix(':type: ')}: {lines[0]}"


def setup(app: Sphinx) -> None:
    """Write the generated tables when a build begins."""
    app.connect("builder-inited", lambda _: tables.write(Path(__file__).parent / "generated"))
    app.connect("autodoc-process-docstring", as_restructured, priority=100)
    app.connect("autodoc-process-docstring", with_its_colon, priority=900)
