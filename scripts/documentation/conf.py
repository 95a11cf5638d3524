"""How the pages are built; see scripts/docs."""

from __future__ import annotations

import ast
import inspect
import os
import re
import typing

import scrdit_jax

project = "scrdit_jax"
author = "the authors of scrdit_jax"
release = version = scrdit_jax.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
html_theme = "sphinx_book_theme"
html_title = "scrdit_jax"
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_show_sourcelink = False
smartquotes = False  # "--out" would become a dash
html_theme_options = {
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "navbar_persistent": [],  # its search would be the second on the page
    "footer_content_items": [],
    "use_download_button": False,
    "path_to_docs": "scripts/documentation",
}

# Tutorials run in a folder of their own, which is removed. What a notebook prints to stderr is a warning of some
# library; what commands print there goes to stdout.
nb_execution_mode = os.environ.get("SCRDIT_DOCS_EXECUTION", "force")
nb_execution_in_temp = True
nb_execution_timeout = -1
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "remove"
os.environ |= {"TQDM_DISABLE": "1", "NO_COLOR": "1"}  # bars are for those who wait, escapes for terminals
os.environ.setdefault("JAX_PLATFORMS", "cpu")

autodoc_member_order = "bysource"
autodoc_typehints = "none"
python_maximum_signature_line_length = 90
napoleon_google_docstring = False
napoleon_use_rtype = False
# A name in single quotes is a link where it is one of the reference, and else a literal. All other links must resolve,
# but for types of other libraries in signatures.
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [("py:obj", ".*"), ("py:class", r"(?!scrdit_jax\.).*"), ("py:exc", ".*")]


class _Text:
    """A text that a signature shows as it is."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _short(annotation: object) -> object:
    """An annotation as it is written, without the rule of a setting."""
    if annotation is inspect.Parameter.empty:
        return annotation
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    tree = ast.parse(text, mode="eval").body
    if isinstance(tree, ast.Subscript) and ast.unparse(tree.value) == "Annotated":
        tree = typing.cast(ast.Tuple, tree.slice).elts[0]
    return _Text(ast.unparse(tree))


def _signature(
    app: object, what: str, name: str, obj: object, options: object, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """The function as it is written: settings that are keywords are `**changes`, a class has its fields."""
    if what not in ("function", "class") or signature is None:
        return None
    found = inspect.signature(inspect.unwrap(obj) if what == "function" else obj)  # type: ignore[arg-type]
    parameters = []
    for each in found.parameters.values():
        hint = inspect.Parameter.empty if each.kind is each.VAR_KEYWORD else _short(each.annotation)
        default = _Text("...") if "<factory>" in repr(each.default) else each.default
        parameters.append(each.replace(annotation=hint, default=default))
    back = _short(found.return_annotation)
    bare = found.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
    return str(bare), None if back is inspect.Signature.empty or what == "class" else repr(back)


def _escaped(app: object, context: object, lines: list[str]) -> None:
    """A star in a help text is no markup, two that sphinx-click has put there are; commands in it are code."""
    found = []
    for line in lines:
        if line.startswith("| scrdit "):
            found += [] if found and found[-1].startswith("   $") else [".. code-block:: console", ""]
            found.append("   $ " + re.sub(" {2,}", "  # ", line.removeprefix("| ")))
        else:
            found.append(re.sub(r"(?<!\*)\*(?!\*)", r"\\*", line))
    lines[:] = found


def _examples(app: object, context: object, lines: list[str]) -> None:
    """The examples below a command's help as code, what follows them as it is."""
    text = [line.removeprefix("| ").strip() for line in lines]
    if "Examples:" not in text:
        return
    start = text.index("Examples:") + 1
    end = next((i for i in range(start, len(text)) if not text[i]), len(text))
    code = ["Examples:", "", ".. code-block:: console", "", *(f"   $ {line}" for line in text[start:end]), ""]
    lines[:] = [*code, *text[end:]]


def setup(app: typing.Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", _signature)
    app.connect("sphinx-click-process-options", _escaped)
    app.connect("sphinx-click-process-description", _escaped)
    app.connect("sphinx-click-process-epilog", _examples)
