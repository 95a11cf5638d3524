"""Every program of an accelerator, compiled and judged without one: python -m benchmarks.speed.compile --out DIR.

Samplers and training steps of the presets for TPU v5e, v6e, v5p and for H100 and H200: operations and bytes, memory,
attention, dtypes, kernels, and what a chip could do at most (results.json, table.md, roofline.png). `scripts/compilers`
installs the compilers. Exits with status 1 where a program has what none may have: an exchange between devices or a
transfer to the host in sampling, or the pattern that XLA miscompiles (jax#39336).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from benchmarks.commands import as_json, in_own_process, write_files
from scrdit_jax.config import preset_names

from .chips import CHIPS, Chip
from .compiling import Program
from .tables import faults, roofline, table

ROOT = Path(__file__).parents[3]
PACKAGES = {"tpu": "libtpu", "cuda": "jax_plugins.xla_cuda13"}
MODULE = "benchmarks.speed.compile.compiling"
OTHERS = ("base", "demo", "transcriptome")


def programs(chip: Chip) -> Iterator[Program]:
    """All that are compiled for a chip; the first is the quickest that says something."""
    name, tpu = chip.name, chip.platform == "tpu"
    best, step = (16, 64) if tpu else (512, 256)
    yield Program(name, "paper", "sampler", best)
    yield Program(name, "paper", "sampler", best, attention="xla")
    for size in (8, 32, 64, 512) if tpu else (64, 2048):
        yield Program(name, "paper", "sampler", size)
    yield Program(name, "paper", "sampler", best, evaluations=4)
    yield Program(name, "paper", "sampler", best, dtype=chip.narrow)
    for preset in OTHERS:
        # A small network wants many cells at once.
        yield Program(name, preset, "sampler", best * (16 if preset == "demo" else 1), evaluations=4)
    for preset in ("paper", *OTHERS):
        yield Program(name, preset, "step", step)
    yield Program(name, "base", "step", step, attention="xla")
    if chip.most > 1:
        for preset in ("paper", "base"):
            yield Program(name, preset, "sampler", best * chip.most, chip.most, evaluations=4)
        yield Program(name, "base", "step", step * chip.most, chip.most)


def interpreter(chip: Chip) -> str | None:
    """A Python that has the chip's compiler: this one, or that of `scripts/compilers`."""
    if _has(PACKAGES[chip.platform]):
        return sys.executable
    there = ROOT / f".venv-{chip.platform}" / "bin" / "python"
    return str(there) if there.exists() else None


def _has(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def run(program: Program) -> dict[str, Any]:
    """Compiled in a process of its own; where that fails, the error's last line."""
    try:
        python = interpreter(CHIPS[program.chip])
        return in_own_process(MODULE, "compile_and_judge", *program, python=python, quiet=True)
    except subprocess.CalledProcessError as failed:
        lines = [line for line in failed.stderr.splitlines() if line.strip()]
        error = next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else "killed")
        return program._asdict() | {"error": " ".join(error.split())[:200]}


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the results.")
@click.option("--chip", "chips", type=click.Choice(list(CHIPS)), multiple=True, help="Only this one; may be repeated.")
@click.option("--preset", "presets", type=click.Choice(preset_names()), multiple=True)
@click.option("--small", is_flag=True, help="One program a chip.")
@click.option("--at-once", default=2, show_default=True, help="Compilers that run side by side.")
def main(out: Path, chips: tuple[str, ...], presets: tuple[str, ...], small: bool, at_once: int) -> None:
    """Compile what is not in the results yet, judge, and write."""
    chosen = [CHIPS[name] for name in chips or CHIPS]
    for platform in dict.fromkeys(chip.platform for chip in chosen):
        if not any(interpreter(chip) for chip in chosen if chip.platform == platform):
            names = ", ".join(chip.name for chip in chosen if chip.platform == platform)
            raise click.ClickException(f"{names} need a compiler; install it with: scripts/compilers {platform}")
    wanted = [
        program
        for chip in chosen
        for program in list(programs(chip))[: 1 if small else None]
        if not presets or program.preset in presets
    ]
    path = out / "results.json"
    rows = json.loads(path.read_text()) if path.is_file() else []
    done = {tuple(row["program"]) for row in rows}
    left = [program for program in wanted if tuple(program) not in done]
    with ThreadPoolExecutor(at_once) as pool:
        for program, row in zip(left, pool.map(run, left), strict=True):
            rows.append({"program": list(program), **row})
            click.echo(table(rows[-1:]).splitlines()[-1])
            write_files(out, {"results.json": as_json(rows)})
    write_files(out, {"table.md": table(rows), "roofline.png": roofline(rows)})
    for fault in (found := faults(rows)):
        click.echo(fault)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
