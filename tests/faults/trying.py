"""One command under one fault: what is there after it, and what the same command makes of that."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .commands import Command
from .shim import BAD_DISK, CLOCK, COUNT, NO_SPACE, SIGNAL, SNAPSHOT, Fault, injected

YEAR = 365 * 24 * 3600
NEVER = 1 << 40
# name: (action, its argument, the statuses that it may end with where it is not survived)
FAULTS = {
    "ENOSPC": (NO_SPACE, 0, {2}),
    "EIO": (BAD_DISK, 0, {2}),
    "SIGTERM": (SIGNAL, signal.SIGTERM, {128 + signal.SIGTERM}),
    "SIGINT": (SIGNAL, signal.SIGINT, {130}),
    "kill -9": (SNAPSHOT, 0, set()),
    "clock + 1 year": (CLOCK, YEAR, set()),
    "clock - 1 year": (CLOCK, -YEAR, set()),
}


@dataclass
class Outcome:
    """What came of the faults of one kind in one command: `points` tried of `all`, and what was wrong at which."""

    command: str
    fault: str
    all: int = 0
    points: int = 0
    wrong: list[str] = field(default_factory=list)


def call(words: tuple[str, ...]) -> tuple[int, str]:
    """`scrdit WORDS` in this process: (exit status, all that reached stdout and stderr, threads and C included)."""
    from scrdit_jax.cli import main

    sys.stdout.flush(), sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        kept = os.dup(1), os.dup(2)
        os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
        status = 0
        try:
            main(list(words), prog_name="scrdit", standalone_mode=True)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException as error:  # noqa: BLE001 - that is what is looked for
            import traceback

            traceback.print_exception(error)
            status = 1
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os.dup2(kept[0], 1), os.dup2(kept[1], 2)
            os.close(kept[0]), os.close(kept[1])
        file.seek(0)
        return status, file.read().decode(errors="replace")


class Trial:
    """A command in a folder of its own, undisturbed once, then under any number of faults."""

    def __init__(self, name: str, command: Command, work: Path) -> None:
        """`work` is a new folder; the inputs are in the current one."""
        self.name, self.command = name, command
        self.root, self.begin, self.copies = work / "root", work / "begin", work / "copies"
        self.out = self.root / command.out
        self.words = (*command.words, "--out", str(self.out))
        self.root.mkdir(parents=True)
        self.digests = set[str]()
        if command.earlier is not None:
            self._undisturbed((*command.earlier, "--out", str(self.out)))
            self.digests.add(command.digest(self.out))
        shutil.copytree(self.root, self.begin)
        self._undisturbed(self.words)
        self.digest = command.digest(self.out)
        self.digests.add(self.digest)
        self.there = self._listing()

    def _undisturbed(self, words: tuple[str, ...]) -> None:
        status, text = call(words)
        if status != 0:
            raise RuntimeError(f"scrdit {' '.join(words)} fails by itself: {text}")

    def _listing(self) -> list[str]:
        """What there is, but for the files of arrays, to which their content gives names."""
        names = (str(path.relative_to(self.root)) for path in self.root.rglob("*"))
        return sorted(name for name in names if "/d/" not in name)

    def _anew(self, state: Path) -> None:
        shutil.rmtree(self.root)
        shutil.copytree(state, self.root, symlinks=True)

    def count(self, kind: str, log: Path | None = None) -> int:
        """How many operations there are that a fault of this kind can befall."""
        self._anew(self.begin)
        action = FAULTS[kind][0]
        fault = Fault(action if action in (NO_SPACE, BAD_DISK) else COUNT, NEVER)
        with injected(fault, self.root, log):
            call(self.words)
        return fault.points

    def under(self, kind: str, most: int) -> Outcome:
        """Try faults of one kind at `most` points, spread over all that there are."""
        if kind == "kill -9":
            return self._killed(most)
        outcome = Outcome(self.name, kind, self.count(kind))
        for at in spread(outcome.all, most):
            action, argument, statuses = FAULTS[kind]
            self._anew(self.begin)
            fault = Fault(action, at, int(argument))
            with injected(fault, self.root):
                status, text = call(self.words)
            outcome.points += 1
            place = f"{self.name}, {kind} at {at} ({fault.hit or 'not reached'})"
            outcome.wrong += [f"{place}: {what}" for what in self._wrong_now(status, text, statuses)]
            outcome.wrong += [f"{place}, the same again: {what}" for what in self._wrong_after()]
        return outcome

    def _killed(self, most: int) -> Outcome:
        """Copies of the folder from one undisturbed call are what kill -9 would leave at every operation."""
        shutil.rmtree(self.copies, ignore_errors=True)
        self.copies.mkdir()
        every = max(1, self.count("kill -9") // most) if most else 1
        self._anew(self.begin)
        fault, log = Fault(SNAPSHOT, every, copies=self.copies), self.copies / "log"
        with injected(fault, self.root, log):
            call(self.words)
        operations = log.read_text().splitlines()
        outcome = Outcome(self.name, "kill -9", fault.points)
        for at in range(every, fault.points + 1, every):
            self._anew(self.copies / str(at))
            self._of_a_dead_process()
            outcome.points += 1
            place = f"{self.name}, kill -9 at {at} ({operations[at - 1]})"
            outcome.wrong += [f"{place}: {what}" for what in self._wrong_files()]
            outcome.wrong += [f"{place}, the same again: {what}" for what in self._wrong_after()]
        shutil.rmtree(self.copies)
        return outcome

    def _of_a_dead_process(self) -> None:
        """Names that hold this process's number get that of one that is no more."""
        dead = os.posix_spawn("/bin/true", ["true"], {})
        os.waitpid(dead, 0)
        for path in sorted(self.root.rglob(f"*{os.getpid()}*"), reverse=True):
            path.rename(path.with_name(path.name.replace(str(os.getpid()), str(dead))))

    def _wrong_now(self, status: int, text: str, statuses: set[int]) -> Iterator[str]:
        """After a fault that the process has seen."""
        if "Traceback" in text or "Exception ignored" in text:
            yield f"a traceback: {text[-1500:]}"
        elif status not in {0, *statuses}:
            yield f"status {status}: {text[-300:]}"
        elif status == 2 and len(errors := [line for line in text.splitlines() if "scrdit: " in line]) != 1:
            yield f"{len(errors)} lines of error: {text[-300:]}"
        if status == 0 and not (self.out.exists() and self._digest() == self.digest):
            yield "status 0, and not what was to be made"
        allowed = set(self.there)
        for path in self.root.rglob(".*"):
            name = str(path.relative_to(self.root))
            inside = [part.name for part in (path, *path.parents) if part.name.startswith(".")]
            if name not in allowed and not any(name in self.command.used_again for name in inside):
                yield f"{name} was left"
        yield from self._wrong_files()

    def _wrong_files(self) -> Iterator[str]:
        """What is visible is whole, or can be gone on with; what was there before was not lost."""
        kind = self.command.digest.__name__
        if kind in ("digest_of_run", "digest_of_shards"):
            if (self.out / "config.json").exists() or (self.out / "manifest.json").exists():
                status, text = call(("info", str(self.out)))
                if status != 0:
                    yield f"info: {text[-300:]}"
        elif self.out.exists():
            if self._digest() not in self.digests:
                yield f"half-written: {self._digest()[:300]}"
        elif self.command.earlier is not None:
            yield "what was there before is lost"

    def _wrong_after(self) -> Iterator[str]:
        """After the same command again, without a fault, once threads have ended that would end with their process."""
        before, patience = None, time.monotonic() + 5
        while time.monotonic() < patience:
            with contextlib.suppress(FileNotFoundError):  # they delete while it is looked
                if (now := sorted(self.root.rglob("*"))) == before:
                    break
                before = now
            time.sleep(0.1)
        status, text = call(self.words)
        if status != 0 or "Traceback" in text:
            yield f"status {status}: {text[-1500:]}"
            return
        if (digest := self._digest()) != self.digest:
            yield f"digest {digest[:200]}, not {self.digest[:12]}"
        there = self._listing()
        if there != self.there:
            yield f"too many: {sorted(set(there) - set(self.there))}, missing: {sorted(set(self.there) - set(there))}"

    def _digest(self) -> str:
        try:
            return self.command.digest(self.out)
        except Exception as error:  # noqa: BLE001 - whatever it is, the file cannot be read
            return f"unreadable: {type(error).__name__} {error}"


def spread(count: int, most: int) -> list[int]:
    """`most` numbers of 1 to `count`, evenly, with the first and the last; all where `most` is 0."""
    if not most or most >= count:
        return list(range(1, count + 1))
    return sorted(set(np.linspace(1, count, most).round().astype(int).tolist()))


@contextlib.contextmanager
def signals_survived() -> Iterator[None]:
    """A signal that comes after its command has ended does not end the process that tries them."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM,)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
