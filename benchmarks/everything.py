"""Every benchmark on the device at hand, into benchmarks/results/DEVICE/: python -m benchmarks.everything RUN.

RUN is a trained run (that of `scripts/demo`, for comparable figures). Nothing is fetched. What is there already is not
measured again; a part that fails does not keep the others from running. Parts that need PyTorch need the extra `torch`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from benchmarks.commands import RESULTS, in_own_process, slug
from scrdit_jax.devices import usable_cores

# On a CPU the paper's network makes about 20 cell-evaluations a second: a thousand a cell would take a day.
PAPER_CASES_ON_CPU = ("ddim-20", "dpmpp-2m-20", "unipc-10")


def device_folder(found: dict[str, Any]) -> Path:
    """Where the results of a device lie, such as results/nvidia-h200 or results/amd-epyc-2-cores."""
    name = f"{found['kind']} {usable_cores()} cores" if found["platform"] == "cpu" else str(found["kind"])
    return RESULTS / slug(name)


def parts(run: Path, folder: Path, *, on_cpu: bool) -> list[tuple[Path, list[str]]]:
    """(what it leaves, the arguments of python) of every part, the quick ones first."""
    tool = ["-m", "scrdit_jax", "benchmark"]
    steps: list[tuple[Path, list[str]]] = [
        (folder / "accuracy.json", ["-m", "benchmarks.speed.accuracy", str(run)]),
        (folder / "linearity.json", ["-m", "benchmarks.speed.linearity"]),
    ]
    few = [word for name in PAPER_CASES_ON_CPU for word in ("--case", name)] if on_cpu else []
    torch = ["-m", "benchmarks.speed.pytorch"]
    for dtype in ("float32",) if on_cpu else ("bfloat16", "float32"):
        steps += [
            (folder / f"peer-demo-{dtype}.json", [*torch, str(run), "--dtype", dtype]),
            (folder / f"peer-paper-{dtype}.json", [*torch, "--preset", "paper", "--dtype", dtype]),
            (folder / f"paper-{dtype}", [*tool, "--preset", "paper", "--dtype", dtype, *few]),
            (folder / f"demo-{dtype}", [*tool, str(run), "--dtype", dtype]),
        ]
    return steps


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
def main(run: Path) -> None:
    """Run what is missing, part by part."""
    # A process that looks at an accelerator takes most of its memory.
    found = in_own_process("scrdit_jax.devices", "describe_devices")
    on_cpu = found["platform"] == "cpu"
    # The accuracy of an accelerator is held against the CPU, so both must be there; PyTorch needs memory beside JAX.
    accelerator = "cuda" if found["platform"] == "gpu" else found["platform"]
    settings = {} if on_cpu else {"JAX_PLATFORMS": f"{accelerator},cpu", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5"}
    failed = []
    for out, arguments in parts(run, device_folder(found), on_cpu=on_cpu):
        if out.is_file() or (out / "table.md").is_file():
            click.echo(f"{out} is there")
            continue
        click.echo(f"{out} ...")
        out.parent.mkdir(parents=True, exist_ok=True)
        process = subprocess.run([sys.executable, *arguments, "--out", str(out)], env=os.environ | settings)
        if process.returncode:
            failed.append(out.name)
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
