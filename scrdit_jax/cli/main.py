"""The group of commands, and what they share."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from .. import __version__
from ..config.checks import SEED, Rule, shown
from ..errors import BadConfig, ScrditError, one_line
from ..registry import Registry

# What a shell reports of a program that SIGTERM has ended: schedulers know it, and start the program anew.
TERMINATED = 128 + signal.SIGTERM
SECONDS_TO_SIGNAL_AGAIN = 0.01


class Terminated(BaseException):
    """SIGTERM has come; as with Ctrl-C, what is half written is removed on the way out."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM, which schedulers send before they take a machine away, end the block by `Terminated`.

    Where it or Ctrl-C comes while a destructor runs, Python would only print it and go on: it is sent once more.
    """

    def on_signal(*_: object) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # no other may have a handler
        yield
        return
    before, report = signal.signal(signal.SIGTERM, on_signal), sys.unraisablehook
    lost: list[type[BaseException]] = []
    ended = threading.Event()

    def on_unraisable(what: Any) -> None:
        if ended.is_set() or what.exc_type not in (Terminated, KeyboardInterrupt):
            report(what)
            return
        lost.append(what.exc_type)
        again = threading.Timer(SECONDS_TO_SIGNAL_AGAIN, _signal_again, (lost,))
        again.daemon = True
        again.start()

    sys.unraisablehook = on_unraisable
    try:
        yield
        if lost:  # the block was faster
            raise lost.pop()
    finally:
        lost.clear()
        ended.set()
        if sys.unraisablehook is on_unraisable:  # a checkpoint that cannot be read leaves another, which calls this one
            sys.unraisablehook = report
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _signal_again(lost: list[type[BaseException]]) -> None:
    if lost:
        os.kill(os.getpid(), signal.SIGTERM if lost.pop() is Terminated else signal.SIGINT)


class Commands(click.Group):
    """Shows what a user got wrong as one line and exits with status 2."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command; anything that is not a user's error keeps its traceback, for a bug report."""
        try:
            with terminable():
                return super().invoke(context)
        except ScrditError as error:
            click.echo(f"scrdit: {error}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("scrdit: interrupted; run the same command again to continue", err=True)
            sys.exit(130)
        except Terminated:
            click.echo("scrdit: terminated; run the same command again to continue", err=True)
            sys.exit(TERMINATED)


class Number(click.ParamType):
    """A number, by a rule of the settings where it is given one."""

    def __init__(self, kind: type[int] | type[float], rule: Rule | None = None) -> None:
        """An `int` or a `float`."""
        self._kind, self._rule = kind, rule
        self.name = "integer" if kind is int else "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | float:
        """The number; BadConfig with the option's name where it is none, or breaks the rule."""
        name = param.opts[-1] if param is not None else "the number"
        try:
            number = self._kind(value)
        except (ValueError, OverflowError):  # Python reads no whole number of more than 4,300 digits
            raise BadConfig(f"{name} is {shown(value)}; it must be a {'whole ' * (self._kind is int)}number") from None
        return number if self._rule is None else self._rule(name, number)


WHOLE, REAL = Number(int), Number(float)


class _Path(click.Path):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":  # which would be the folder at hand
            raise BadConfig(f"{'the path' if param is None else param.opts[-1]} is empty; give a path")
        return super().convert(value, param, ctx)


PATH = _Path(path_type=Path)


def seed_option(text: str, **attributes: Any) -> Callable:
    """The option --seed, by the one rule that seeds have."""
    return click.option("--seed", type=Number(int, SEED), help=text, **attributes)


class Part(click.ParamType):
    """The name of a registered part; the names are looked up when help is shown or an option is read."""

    name = "name"

    def __init__(self, registry: Registry) -> None:
        """One of `registry`."""
        self._registry = registry

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Such as [dit|unet]."""
        return f"[{'|'.join(self._registry)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name; BadConfig, with those there are, if it is none."""
        self._registry.require(value)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names that begin so."""
        return [CompletionItem(name) for name in self._registry if name.startswith(incomplete)]


class Counts(click.ParamType):
    """NAME=COUNT, of a registered part."""

    name = "name=count"

    def __init__(self, registry: Registry) -> None:
        """NAME is one of `registry`."""
        self._registry = registry

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """(name, count); ("none", 0) for "none"."""
        if isinstance(value, tuple):
            return value
        if value == "none":
            return "none", 0
        name, _, count = str(value).partition("=")
        self._registry.require(name)
        if not count.isdecimal() or len(count) > 20:
            raise BadConfig(f"{shown(value)} says no number of {name}; write {name}=32, for example")
        return name, int(count)


class Named(click.ParamType):
    """NUMBER of no name, or NAME=NUMBER; the name may have = in it."""

    def __init__(self, what: str, examples: str) -> None:
        """`what` the number is, and what is to be written, for messages."""
        self._what, self._examples = what, examples
        self.name = f"name={what}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """(name, number); ("", number) of no name."""
        if isinstance(value, tuple):
            return value
        name, _, number = str(value).rpartition("=")
        try:
            return name, float(number)
        except ValueError:
            option = "the option" if param is None else param.opts[-1]
            raise BadConfig(f"{option} {value[:80]} says no {self._what}; write {self._examples}") from None


WEIGHT = Named("number", "--guidance 2, or --guidance COLUMN=2")


def guidance(pairs: Iterable[tuple[str, float]]) -> float | tuple[tuple[str, float], ...] | None:
    """What was given by options of the type WEIGHT: one number, or one for each of some columns; None: none."""
    given = tuple(pairs)
    if len(given) > 1 and any(not column for column, _ in given):
        raise BadConfig("--guidance is one number for all conditions, or one for each column: COLUMN=W")
    return given[0][1] if given and not given[0][0] else given or None


class Category(click.ParamType):
    """COLUMN=NAME."""

    name = "column=name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """(column, name of a category)."""
        if isinstance(value, tuple):
            return value
        column, _, name = str(value).partition("=")
        if not (column and name):
            raise BadConfig(f"--condition {value[:80]} names no category; write --condition tissue=lung, for example")
        return column, name


def categories(pairs: Iterable[tuple[str, str]]) -> Mapping[str, str] | None:
    """What was given by options of the type Category; None: none."""
    found: dict[str, str] = {}
    for column, name in pairs:
        if found.setdefault(column, name) != name:
            raise BadConfig(
                f"--condition asks for {column}={found[column]} and {column}={name}; a cell has one category in each "
                "column: give one, or a table as --per-type"
            )
    return found or None


def counts(pairs: Iterable[tuple[str, int]]) -> Mapping[str, int] | None:
    """What was given by options of the type Counts; None where none was, {} for "none"."""
    given = dict(pairs)
    return {name: count for name, count in given.items() if name != "none"} if given else None


def examples(*lines: str) -> str:
    """The examples at the end of a command's help, kept as they are written."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None and value != ()}


def options(*decorators: Callable) -> Callable:
    """Several options as one decorator, in the order they are to be shown."""

    def decorate(function: Callable) -> Callable:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def say(notes: Iterable[str]) -> None:
    """Sentences, one a line."""
    for note in notes:
        click.echo(f"  {one_line(note)}")


distributed_options = options(
    click.option("--distributed", is_flag=True, help="One of many processes that share the work."),
    click.option("--processes", type=WHOLE, metavar="N", help="How many.  [default: as JAX finds out]"),
    click.option("--process-id", type=WHOLE, metavar="I", help="Which one this is, 0 to N-1."),
)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="scrdit")
def main() -> None:
    """Train a diffusion transformer on single-cell RNA-seq and generate synthetic cells from it.

    \b
    scrdit demo                                            everything once, on PBMC 3k, in minutes
    scrdit train cells.h5ad --out run                      then: sample, evaluate
    """
