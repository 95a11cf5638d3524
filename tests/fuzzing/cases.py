"""A case: a number gives the file, its damage and what reads it; the outcome says whether that was as it should be."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .mutate import damage_somewhere, pick

# Seconds of the processor, and of the clock where the machine is not busy with something else.
MOST_SECONDS, MOST_SECONDS_WAITED = 8, 30
LONGEST_LINE = 2500
SUCCESS, REFUSED, USAGE = "success", "one-line error", "usage error"
FINE = (SUCCESS, REFUSED, USAGE)


class Hang(BaseException):
    """A case took too long."""


@dataclass(frozen=True)
class Result:
    """What came of a case; `place` is the innermost line of the project that an error came through."""

    number: int
    seed: str
    target: str
    damage: str
    outcome: str
    detail: str = ""
    place: str = ""
    seconds: float = 0.0


class Targets:
    """Everything that reads files, by name; each takes the damaged file and a folder to write to."""

    def __init__(self, seeds: Path) -> None:
        """`seeds` holds the valid files, of which some are needed beside the damaged one."""
        from scrdit_jax.checkpoint import load_model

        self.seeds = seeds
        self.table = load_model(seeds / "run").conditions

    def _scrdit(self, *words: object) -> None:
        from scrdit_jax.cli import main

        main([str(word) for word in words], prog_name="scrdit", standalone_mode=False)

    def prepare(self, path: Path, out: Path) -> None:
        self._scrdit("prepare", path, "--preset", self._preset(path), "--out", out / "prepared.h5ad")

    def _preset(self, path: Path) -> Path:
        """One that asks for labels where the undamaged file has them."""
        return self.seeds / ("preset.json" if path.suffix in (".h5ad", ".zarr") else "plain.json")

    def stream(self, path: Path, out: Path) -> None:
        self._scrdit(
            "prepare", path, "--preset", self.seeds / "preset.json", "--stream", "--out", out / "prepared.zarr"
        )

    def info(self, path: Path, out: Path) -> None:
        self._scrdit("info", path)

    def evaluate(self, path: Path, out: Path) -> None:
        from scrdit_jax.evaluation.cells import compared_cells

        compared_cells(path, self.seeds / "synthetic.h5ad")

    def evaluate_synthetic(self, path: Path, out: Path) -> None:
        from scrdit_jax.evaluation.cells import compared_cells

        compared_cells(self.seeds / "csr.h5ad", path)

    def match(self, path: Path, out: Path) -> None:
        from scrdit_jax.conditioning.request import CellRequest, resolve

        resolve(CellRequest(match=path), self.table)

    def per_type(self, path: Path, out: Path) -> None:
        from scrdit_jax.conditioning.request import CellRequest, resolve

        resolve(CellRequest(per_type=path), self.table)

    def preset(self, path: Path, out: Path) -> None:
        self._scrdit("prepare", self.seeds / "csr.h5ad", "--preset", path, "--out", out / "prepared.h5ad")

    def timesteps(self, path: Path, out: Path) -> None:
        from scrdit_jax.diffusion.timesteps import check_timesteps, read_timesteps

        check_timesteps(read_timesteps(path).timesteps, 20)

    def genes(self, path: Path, out: Path) -> None:
        from scrdit_jax.importing.genes import read_gene_names

        read_gene_names(path)

    def import_torch(self, path: Path, out: Path) -> None:
        self._scrdit("import-torch", path, "--heads", 2, "--out", out / "run")

    def load(self, path: Path, out: Path) -> None:
        from scrdit_jax.families import load

        trained = load(path)
        for model in getattr(trained, "models", (trained,)):
            model.digest  # noqa: B018 - computed when it is asked for

    def further(self, path: Path, out: Path) -> None:
        from scrdit_jax.training.fine_tuning import Base

        Base.load(path, out / "run")

    def lines(self, path: Path, out: Path) -> None:
        from scrdit_jax.training.metric_logger import read_lines

        read_lines(path / "metrics.jsonl")
        read_lines(path / "evaluations.jsonl")

    def sample(self, path: Path, out: Path) -> None:
        self._scrdit("sample", path, "--cells", 5, "--steps", 2, "--batch-size", 8, "--out", out / "cells.h5ad")

    def verify(self, path: Path, out: Path) -> None:
        self._scrdit("verify", path)

    def assemble(self, path: Path, out: Path) -> None:
        self._scrdit("assemble", path, "--out", out / "cells.h5ad")

    def onto(self, path: Path, out: Path) -> None:
        """The damaged file is the output that is there already."""
        self._scrdit("assemble", self.seeds / "shards", "--out", path)

    def packed(self, path: Path, out: Path) -> None:
        from unittest.mock import patch

        from scrdit_jax.importing import pretrained

        with patch.object(pretrained, "FOLDER", path.parent):
            pretrained.about(path.stem)

    def choices(self, path: Path, out: Path) -> None:
        """What was measured, as the cache has kept it; damage to it goes unnoticed but for time."""
        from unittest.mock import patch

        from scrdit_jax.cache import cached_measurement
        from scrdit_jax.generation.tuning import choose_batch_size

        with patch.dict(os.environ, {"SCRDIT_CACHE": str(path)}):
            found = cached_measurement({"what": "fuzz"}, lambda: [[8, 1.0], [16, 2.0]])
        if choose_batch_size(found) < 1:
            raise AssertionError(found)


FILES = ("prepare", "prepare", "info", "evaluate")
STREAMED = (*FILES, "match", "stream", "stream", "stream")
SYNTHETIC = ("info", "info", "evaluate_synthetic", "onto", "onto", "prepare", "stream")
RUN = ("info", "load", "load", "evaluate", "further", "lines", "sample")
SHARDS = ("info", "verify", "assemble")
SEEDS: dict[str, tuple[str, ...]] = {
    "csr.h5ad": STREAMED, "csc.h5ad": STREAMED, "dense.h5ad": STREAMED, "csr.zarr": STREAMED, "dense.zarr": STREAMED,
    "cells.csv": FILES, "cells.tsv.gz": FILES, "cells.npy": FILES, "tenx.h5": FILES, "mtx": FILES, "mtx_gz": FILES,
    "tumours.txt.gz": FILES, "preset.json": ("preset",), "timesteps.json": ("timesteps",),
    "timesteps.txt": ("timesteps",), "quotas.csv": ("per_type",), "genes.txt": ("genes",),
    "reference_dit.safetensors": ("import_torch",), "run": RUN, "shards": SHARDS, "synthetic.h5ad": SYNTHETIC,
    "synthetic.zarr": SYNTHETIC, "family": ("info", "load"), "model.npz": ("packed",), "choices": ("choices",),
}  # fmt: skip
# Those of which one file matters more than the others.
MAIN_FILES = {
    "run": ("config.json", "checkpoints", "held_out.h5ad", "metrics.jsonl"), "shards": ("manifest.json", "shards"),
    "family": ("family.json",),
}  # fmt: skip


def _with_digest(record: Any) -> Any:
    """A manifest that was not changed after it was written, for all one can see."""
    if isinstance(record, dict):
        rest = {name: value for name, value in record.items() if name != "digest"}
        record["digest"] = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    return record


# Not everything can be done with everything.
REFUSED_UNDAMAGED = {("csc.h5ad", "stream"), ("cells.npy", "evaluate")}
FINISH: dict[str, Callable[[Any], Any]] = {"manifest.json": _with_digest}


def undamaged(targets: Targets) -> list[str]:
    """What is wrong with files that are as they should be: nothing, or no case would tell anything."""
    wrong = []
    for seed in SEEDS:
        for target in dict.fromkeys(SEEDS[seed]):
            with tempfile.TemporaryDirectory(prefix="case_") as folder:
                path, out = _copied(seed, targets.seeds, Path(folder)), Path(folder) / "out"
                out.mkdir()
                with _captured() as text:
                    outcome, detail, _ = _called(getattr(targets, target), path, out)
                    said = text()
                if outcome != SUCCESS and (seed, target) not in REFUSED_UNDAMAGED:
                    wrong.append(f"{target} {seed}: {outcome} {said}{detail}"[:1000])
    return wrong


def _copied(seed: str, seeds: Path, work: Path) -> Path:
    path = work / seed
    if (seeds / seed).is_dir():
        shutil.copytree(seeds / seed, path)
    else:
        shutil.copy(seeds / seed, path)
    return path


def _damaged(random: np.random.Generator, seeds: Path, work: Path) -> tuple[str, str, Path, str]:
    """(seed, target, the damaged file or folder, what was done to it) of a case."""
    seed = pick(random, list(SEEDS))
    target = pick(random, SEEDS[seed])
    place = path = _copied(seed, seeds, work)
    if seed in MAIN_FILES and random.random() < 0.8:
        place = path / pick(random, MAIN_FILES[seed])
    if seed.startswith("synthetic") and random.random() < 0.6:
        return seed, target, path, _damaged_record(path, random)
    return seed, target, path, damage_somewhere(place, random, FINISH)


def _damaged_record(path: Path, random: np.random.Generator) -> str:
    """In the place of the record of where synthetic cells come from, something else."""
    import h5py
    import zarr

    from scrdit_jax.io.append import zarr_format_3

    from .mutate import HOSTILE, json_of

    group = zarr.open_group(path, mode="r+") if path.suffix == ".zarr" else h5py.File(path, "r+")
    with contextlib.ExitStack() as stack:
        if isinstance(group, h5py.File):
            stack.enter_context(group)
        text = group["uns/scrdit/provenance"][()]
        text = text.decode() if isinstance(text, bytes) else str(np.asarray(text)[()])
        new, what = json_of(text, random)
        if random.random() < 0.3:
            new = what = str(pick(random, HOSTILE))[:5000]
        place = pick(random, ["uns/scrdit/provenance"] * 3 + ["uns/scrdit", "uns"])
        with contextlib.suppress(ValueError, TypeError, UnicodeError), zarr_format_3():
            import anndata

            del group[place]
            anndata.io.write_elem(group, place, pick(random, [new, new, new, 5, np.arange(3), {"a": new}]))
    return f"record: {what[:200]} in {place}"


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, stop), signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS_WAITED)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGPROF, before[0])
        signal.signal(signal.SIGALRM, before[1])


@contextlib.contextmanager
def _captured() -> Iterator[Callable[[], str]]:
    """All that reaches stdout and stderr, from C too."""
    sys.stdout.flush(), sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        kept = os.dup(1), os.dup(2)
        os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)

        def text() -> str:
            sys.stdout.flush(), sys.stderr.flush()
            file.seek(0)
            return file.read(100_000).decode(errors="replace")

        try:
            yield text
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os.dup2(kept[0], 1), os.dup2(kept[1], 2)
            os.close(kept[0]), os.close(kept[1])


def run_case(
    number: int, targets: Targets, root_seed: int = 0, announce: Callable[[str, str, str], None] = lambda *_: None
) -> Result:
    """Case `number`, from beginning to end; it leaves nothing. `announce` is told what it is before it is tried."""
    random, began = np.random.default_rng([root_seed, number]), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="case_") as folder:
        work, out = Path(folder), Path(folder) / "out"
        out.mkdir()
        seed, target, path, what = _damaged(random, targets.seeds, work)
        announce(seed, target, what)
        before = sorted(work.rglob("*")) if target != "sample" else None
        with _captured() as text:
            outcome, detail, place = _called(getattr(targets, target), path, out)
            said = text()
        if outcome in FINE:
            problem = _problem(outcome, said or detail, work)
            if problem is None and outcome != SUCCESS and before is not None and sorted(work.rglob("*")) != before:
                problem = "left something"
                detail = str(sorted(set(work.rglob("*")) - set(before)))
            if problem is not None:
                outcome, detail = problem, f"{said}{detail}"[-3000:]
    return Result(number, seed, target, what, outcome, detail[-3000:], place, round(time.monotonic() - began, 3))


def _called(target: Callable[[Path, Path], None], path: Path, out: Path) -> tuple[str, str, str]:
    """(outcome, detail, the innermost line of the project)."""
    import click

    from scrdit_jax.errors import ScrditError

    try:
        with _limited(), warnings.catch_warnings():
            warnings.simplefilter("default")
            for kind in (DeprecationWarning, PendingDeprecationWarning):  # which Python does not show users
                warnings.simplefilter("ignore", kind)
            target(path, out)
    except ScrditError as error:
        return REFUSED, str(error), ""
    except SystemExit as end:
        return (REFUSED if end.code == 2 else f"status {end.code}"), "", ""
    except click.UsageError as error:
        return USAGE, str(error), ""
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "scrdit_jax/" in f.filename]
        place = (
            f"{frames[-1].filename.rpartition('scrdit_jax/')[2]}:{frames[-1].lineno} {frames[-1].name}"
            if frames
            else ""
        )
        detail = "".join(traceback.format_exception(error, limit=-6))[-2500:]
        return type(error).__name__, detail, place
    return SUCCESS, "", ""


def _problem(outcome: str, said: str, work: Path) -> str | None:
    """What is wrong with how a case ended that seems to have ended well."""
    if "Traceback" in said or "Exception ignored" in said:
        return "traceback printed"
    if "Warning" in said:
        return "warning printed"
    if any(len(line) > LONGEST_LINE for line in said.splitlines()):
        return "very long line"
    if any(ord(letter) < 32 and letter not in "\n\t\r" for letter in said):
        return "control characters printed"
    if outcome == REFUSED and len([line for line in said.splitlines() if not line.startswith("  ")]) > 1:
        return "several lines"
    if any((work / "out").rglob(".*")):
        return "hidden files left"
    return None
