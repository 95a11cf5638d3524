"""Shells complete commands, options and names of parts; colours go to terminals alone."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from scrdit_jax.cli import main
from scrdit_jax.registry import SOLVERS


def completed(words, monkeypatch, capsys):
    """What bash is offered for the last of the words."""
    monkeypatch.setenv("_SCRDIT_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    with pytest.raises(SystemExit):
        main(prog_name="scrdit")
    return [line.partition(",")[2] for line in capsys.readouterr().out.splitlines()]


def test_commands_options_and_parts_are_completed(monkeypatch, capsys):
    assert completed("scrdit sa", monkeypatch, capsys) == ["sample"]
    assert "--per-type" in completed("scrdit sample run --per", monkeypatch, capsys)
    wanted = [name for name in SOLVERS if name.startswith("dp")]
    assert wanted
    assert completed("scrdit sample run --solver dp", monkeypatch, capsys) == wanted


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_what_a_shell_reads_names_the_program(shell):
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert "_SCRDIT_COMPLETE" in result.output
    assert "scrdit" in result.output


def test_bash_takes_it():
    text = CliRunner().invoke(main, ["completion", "bash"]).output
    done = subprocess.run(["bash", "-c", f"{text}\ncomplete -p scrdit"], capture_output=True, text=True, check=True)
    assert "_scrdit_completion" in done.stdout


def test_info_is_coloured_on_a_terminal_alone(tiny_run, monkeypatch):
    words = ["info", str(tiny_run.path)]
    plain = CliRunner().invoke(main, words).output
    assert "\x1b" not in plain
    coloured = CliRunner().invoke(main, words, color=True).output
    assert "\x1b[1mrun " in coloured
    assert click.unstyle(coloured) == plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert CliRunner().invoke(main, words, color=True).output == plain


def test_the_version_is_printed():
    done = subprocess.run([sys.executable, "-m", "scrdit_jax", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("scrdit, version ")
