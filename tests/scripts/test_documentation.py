"""The pages name all that is public, and nothing that does not exist. That they build is for scripts/docs to say."""

import ast
import importlib
import inspect
import re
import textwrap
from pathlib import Path

import pytest
import yaml

import scrdit_jax
from scrdit_jax import errors, pl
from scrdit_jax.cli import main

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "scripts/documentation"
PAGES = [ROOT / "README.md", *sorted(FOLDER.rglob("*.md"))]
OF_OTHERS = {"--constraint"}  # pip's


def code_of(page):
    """What stands as code on a page: lines of blocks, long ones joined, and what is between backticks."""
    text = page.read_text()
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    spans = [" ".join(span.split()) for span in spans]
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()] + spans


def options_of(command):
    return {name for parameter in command.params for name in parameter.opts} | {"--help"}


def wrong_commands(code):
    """What of some lines of code is no command, or no option of it."""
    wrong, every = [], set().union(OF_OTHERS, {"--version"}, *map(options_of, main.commands.values()))
    for line in code:
        for name, rest in re.findall(r"(?<![\w./-])scrdit ([a-z][a-z-]*)([^|;&#\n]*)", line):
            known = main.commands.get(name)
            if known is None:
                wrong.append(f"scrdit {name}")
                continue
            wrong += [
                f"scrdit {name} {o}"
                for o in re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", rest)
                if o not in options_of(known)
            ]
        wrong += [option for option in re.findall(r"^--[a-z][a-z0-9-]*", line) if option not in every]
    return wrong


def directives(*names):
    """What the reference documents, by the directives of Sphinx's autodoc."""
    text = "".join((FOLDER / name).read_text() for name in names)
    return set(re.findall(r"^\.\. auto(?:function|class):: (\S+)", text, re.MULTILINE))


def test_every_public_name_is_in_the_reference():
    public = {f"scrdit_jax.{name}" for name in scrdit_jax.__all__ if name != "pl"}
    public |= {f"scrdit_jax.pl.{name}" for name in pl.__all__}
    assert not public - directives("api.md")
    members = re.search(r"automodule:: scrdit_jax\.errors\n\s+:members: ([^\n]+)", (FOLDER / "api.md").read_text())
    of_users = {
        name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, errors.ScrditError)
    }
    assert set(members[1].split(", ")) == of_users


def test_what_the_reference_names_is_there():
    for name in directives("api.md", "settings.md"):
        module, _, member = name.rpartition(".")
        assert hasattr(importlib.import_module(module), member), name


def test_commands_that_do_not_exist_are_seen():
    bad = ["scrdit sampel run", "scrdit sample run --cell 5", "--per-tipe F", "x && scrdit verify atlas --repeat run"]
    assert len(wrong_commands(bad)) == 4
    good = ["srun scrdit sample run --cells 5 --out atlas --distributed  # --no", "--per-type quotas.csv"]
    assert wrong_commands(good) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page):
    assert wrong_commands(code_of(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_functions_and_their_keywords_exist(page):
    blocks = re.findall(r"^```(?:python|\{code-cell\})\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    for block in (block for block in blocks if not block.startswith("%%bash")):
        lines = [line for line in block.replace("\\\n", " ").splitlines() if not line.startswith("!")]
        for node in ast.walk(ast.parse(textwrap.dedent("\n".join(lines)))):
            text = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if not re.fullmatch(r"scrdit(\.\w+)+", text):
                continue
            function = scrdit_jax
            for name in text.split(".")[1:]:
                function = getattr(function, name)
            unknown = {each.arg for each in node.keywords} - set(inspect.signature(function).parameters)
            assert not unknown, text


def texts_of(path):
    """The strings of a module that are no docstrings."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and ast.get_docstring(node)
    }
    strings = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return "\n".join(node.value for node in strings if id(node) not in docstrings)


def test_messages_on_the_page_of_errors_are_those_of_the_code():
    source = "".join(map(texts_of, (ROOT / "scrdit_jax").rglob("*.py")))
    terms = re.findall(r"^(`.*)\n: ", (FOLDER / "errors.md").read_text(), re.MULTILINE)
    messages = [message for line in terms for message in re.findall(r"`([^`]+)`", line)]
    assert len(messages) > 15
    assert [message for message in messages if message not in source] == []


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_entry_for_scverse_is_of_this_version_and_whole():
    entry = yaml.safe_load((ROOT / "scripts/ecosystem/meta.yaml").read_text())
    # What the schema of scverse/ecosystem-packages requires.
    links = {"project_home", "documentation_home", "contact"}
    assert links | {"name", "description", "install", "license", "tags", "version"} <= set(entry)
    assert entry["version"] == scrdit_jax.__version__
    assert (ROOT / entry["test_command"]).is_file()
    assert len(set(entry["tags"])) == len(entry["tags"])
