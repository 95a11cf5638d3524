"""Every benchmark of speed on the device at hand, into benchmarks/results/DEVICE/: python -m benchmarks.everything RUN.

RUN is a trained run (that of `scripts/demo --pretrained`, for comparable figures) or `pretrained`, the same model.
Nothing is fetched or installed; a part that lacks a library is left out by a sentence. It ends in --minutes: what says
most comes first, each part has a limit of its own, and what no longer fits is left for the same command another time,
which does not measure again what is there. everything.json and summary.md are written after each part.

With --tiny all of it is rehearsed in minutes, on a CPU too, apart from real results: its figures mean nothing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.commands import RESULTS, as_json, in_own_process, one_line_errors, slug, write_files
from benchmarks.summary import summary
from scrdit_jax.devices import usable_cores

PRETRAINED = "pretrained"
# Of RUN: the baseline, what is sampled by default, and what others do.
CASES = ("ddpm-1000", "distributional-4", "distributional-2", "distributional-1", "dpmpp-2m-20")
# On a CPU the paper's network makes about 20 cell-evaluations a second: a thousand a cell would take a day.
PAPER_CASES = ("ddim-20", "dpmpp-2m-20", "unipc-10")
TINY_CASES = ("ddpm-20", "distributional-4")
LEAST_MINUTES = 1.0
SECONDS_TO_END = 10


@dataclass(frozen=True)
class Part:
    """A benchmark: what it leaves, the arguments of python without --out, the minutes it may take, and the library
    that it `needs`."""

    out: Path
    arguments: tuple[str, ...]
    minutes: float
    needs: str | None = None

    def is_there(self) -> bool:
        """Whether it has been measured to its end."""
        if self.out.suffix != ".json":
            return (self.out / "table.md").is_file()
        if not self.out.is_file():
            return False
        values = json.loads(self.out.read_text())
        return "rows" not in values or "found" not in values or values["found"].get("complete", False)


def device_folder(found: dict[str, Any]) -> Path:
    """Where the results of a device lie, such as results/nvidia-h200 or results/amd-epyc-2-cores."""
    name = f"{found['kind']} {usable_cores()} cores" if found["platform"] == "cpu" else str(found["kind"])
    return RESULTS / slug(name)


def parts(run: Path, folder: Path, *, platform: str, tiny: bool = False) -> list[Part]:
    """Every part, what says most first."""
    dtype = "float32" if platform == "cpu" else "bfloat16"
    small = ("--tiny",) if tiny else ()
    preset = str(folder / "tiny.json")  # in the place of RUN and the paper's network
    tool = ("-m", "scrdit_jax", "benchmark", "--dtype", dtype)
    torch = ("-m", "benchmarks.speed.pytorch", "--dtype", dtype)
    once = ("--seeds", "1", *(("--repeats", "1", "--batch-size", "8") if tiny else ()))
    paper = ("--preset", preset if tiny else "paper")
    run_or_tiny = ("--preset", preset) if tiny else (str(run),)
    rounds = ("--steps", "2", "--rounds", "1") if tiny else ()

    def speed(name: str, *arguments: str) -> tuple[str, ...]:
        return "-m", f"benchmarks.speed.{name}", *arguments

    def cases(*names: str) -> tuple[str, ...]:
        return tuple(word for name in names for word in ("--case", name))

    many = ("500", "1000") if tiny else ("100000", "1000000")
    of_paper = TINY_CASES if tiny else PAPER_CASES if platform == "cpu" else ("*",)
    steps = [
        Part(folder / "accuracy.json", speed("accuracy", str(run)), 4),
        Part(folder / "sampling.json", speed("sampling", *small), 4),
        Part(folder / f"demo-{dtype}", (*tool, *run_or_tiny, *once, *cases(*(TINY_CASES if tiny else CASES))), 4),
        Part(folder / "training.json", speed("training", *small, *rounds), 4),
        Part(folder / "end-to-end.json", speed("end_to_end", str(run), "--cells", many[0]), 4),
        Part(folder / "attention.json", speed("attention", *small), 2),
        Part(folder / f"peer-demo-{dtype}.json", (*torch, *run_or_tiny, *rounds), 3, "torch"),
        Part(folder / f"peer-paper-{dtype}.json", (*torch, *paper, *rounds), 3, "torch"),
        Part(folder / "million.json", speed("end_to_end", str(run), "--cells", many[1], "--into", "shards"), 4),
        Part(folder / "linearity.json", speed("linearity", *(("--cells", "500", "--rounds", "1") if tiny else ())), 2),
        Part(folder / f"paper-{dtype}", (*tool, *paper, *once, *cases(*of_paper)), 4),
    ]  # fmt: skip
    # Elsewhere there is but one way to compute attention.
    return [part for part in steps if part.out.stem != "attention" or platform != "cpu" or tiny]


def environment(platform: str, part: Part) -> dict[str, str]:
    """The settings of a part's process."""
    if platform == "cpu":
        return dict(os.environ)
    # The accuracy of an accelerator is held against the CPU, so both must be there; PyTorch needs memory beside JAX.
    memory = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5"} if part.needs == "torch" else {}
    return os.environ | memory | {"JAX_PLATFORMS": f"{'cuda' if platform == 'gpu' else platform},cpu"}


def carry_out(part: Part, seconds: float, settings: dict[str, str]) -> str:
    """Run a part for so long at most; "done", or what happened. Of rows that it had finished, none is lost."""
    part.out.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, *part.arguments, "--out", str(part.out)]
    process = subprocess.Popen(command, env=settings, start_new_session=True)
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"cut off after {seconds / 60:.1f} minutes"
    finally:
        _end(process)
    return "done" if status == 0 else f"failed with status {status}"


def _end(process: subprocess.Popen) -> None:
    """With all that it has started."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def outcome(part: Part, left: float, settings: dict[str, str], *, least: float) -> str:
    """What came of a part with so many seconds left."""
    if part.is_there():
        return "is there"
    if part.needs is not None and importlib.util.find_spec(part.needs) is None:
        return f"left out: {part.needs} is not installed; pip install '.[{part.needs}]'"
    if left < least:
        return "left out: no time left for it; run the same command again"
    return carry_out(part, min(left, 60 * part.minutes), settings)


@contextmanager
def prepared_run(run: str, folder: Path) -> Iterator[Path]:
    """The run's path; of the model that ships, a run made of it for as long as the block lasts."""
    if run != PRETRAINED:
        yield Path(run)
        return
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        yield Path(in_own_process("benchmarks.everything", "unpack", Path(scratch) / "run"))


def unpack(out: str) -> str:
    """Make a run of the model that ships; in a process of its own, as it looks for devices."""
    import scrdit_jax as scrdit

    return str(scrdit.pretrained(out=out).path)


def write_tiny_preset(folder: Path) -> None:
    """A small network as a preset, in the place of others'."""
    from benchmarks.speed.tiny import sized

    write_files(folder, {"tiny.json": as_json(sized("demo", tiny=True).to_dict())})


@click.command()
@click.argument("run")
@click.option("--minutes", default=20.0, show_default=True, help="After which it ends.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder.  [default: that of the device]")
@click.option("--tiny", is_flag=True, help="Rehearse every part with tiny sizes.  [into a temporary folder]")
def main(run: str, minutes: float, out: Path | None, tiny: bool) -> None:
    """Run what is missing, part by part, for as long as there is time."""
    started = time.monotonic()
    with one_line_errors():
        # A process that looks at an accelerator takes most of its memory.
        found = in_own_process("scrdit_jax.devices", "describe_devices")
        folder = out or (Path(tempfile.mkdtemp(prefix="scrdit-")) if tiny else device_folder(found))
        folder.mkdir(parents=True, exist_ok=True)
        if tiny:
            write_tiny_preset(folder)
        done: list[dict[str, Any]] = []
        with prepared_run(run, folder) as path:
            for part in parts(path, folder, platform=found["platform"], tiny=tiny):
                click.echo(f"{part.out.name} ...")
                begun = time.monotonic()
                left = 60 * minutes - (begun - started)
                least = 0.0 if tiny else 60 * LEAST_MINUTES
                came = outcome(part, left, environment(found["platform"], part), least=least)
                done.append({"part": part.out.name, "outcome": came, "seconds": time.monotonic() - begun})
                click.echo(f"{part.out.name}: {came}")
                about = {"device": found, "run": run, "tiny": tiny, "parts": done}
                files = {"everything.json": as_json(about), "summary.md": summary(folder, about)}
                write_files(folder, files)
    click.echo(f"\n{(folder / 'summary.md').read_text()}\n{folder} after {time.monotonic() - started:.0f} s")
    failed = [one["part"] for one in done if one["outcome"].startswith("failed")]
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
