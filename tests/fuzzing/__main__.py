"""python -m tests.fuzzing: damaged files of every kind against every command that reads them.

python -m tests.fuzzing --cases 20000          overnight; what was found is printed as it is found, and at the end
python -m tests.fuzzing --case 1234            one case again
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path

ROOM = 1_500_000_000
MOST_SECONDS_SILENT = 60
UNKNOWN = {"seed": "?", "target": "?", "damage": "?"}


def main() -> int:
    """0 where every case was a success or an error of one line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--case", type=int, help="this one alone, with its traceback")
    parser.add_argument("--seed", type=int, default=0, help="other cases by the same numbers")
    parser.add_argument("--run", type=Path, help="a run to damage, instead of one trained first")
    parser.add_argument("--json", type=Path, help="write the outcomes here")
    given = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
    numbers = range(given.first, given.first + given.cases) if given.case is None else [given.case]
    with tempfile.TemporaryDirectory(prefix="scrdit_fuzzing_") as folder:
        os.environ.setdefault("SCRDIT_CACHE", f"{folder}/cache")
        tempfile.tempdir = folder
        seeds = Path(folder) / "seeds"
        seeds.mkdir()
        _in_a_child(lambda: _write(seeds, given.run))
        _in_a_child(lambda: _require_readable(seeds))
        return _report(list(_outcomes(list(numbers), seeds, given.seed)), given)


def _in_a_child(function) -> None:
    """JAX begins threads, which a process that forks must not have."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function()
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("the files to be damaged could not be made, or not be read")


def _write(seeds: Path, run: Path | None) -> None:
    try:
        from .seeds import write_seeds

        write_seeds(seeds, run)
    except BaseException:
        import traceback

        traceback.print_exc()
        raise


def _require_readable(seeds: Path) -> None:
    from .cases import Targets, undamaged

    if wrong := undamaged(Targets(seeds)):
        print("files are refused that are as they should be:", *wrong, sep="\n  ", file=sys.stderr)
        raise SystemExit(1)


def _outcomes(numbers: list[int], seeds: Path, root_seed: int):
    """The Result of each, from a process that is replaced when it dies or says nothing for long."""
    import anndata  # noqa: F401 - before the fork

    import scrdit_jax.api  # noqa: F401

    while numbers:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _work(numbers, seeds, root_seed, writing)
        os.close(writing)
        rest, last, said = b"", time.monotonic(), UNKNOWN
        while True:
            ready, _, _ = select.select([reading], [], [], 1.0)
            piece = os.read(reading, 1 << 16) if ready else None
            if piece:
                rest, last = rest + piece, time.monotonic()
                *lines, rest = rest.split(b"\n")
                for line in lines:
                    said = json.loads(line)
                    if "outcome" in said:
                        yield said
                        numbers, said = numbers[1:], UNKNOWN
            if piece == b"" or time.monotonic() - last > MOST_SECONDS_SILENT:
                break
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if numbers:
            why = "hang in C" if piece != b"" else f"died of signal {os.WTERMSIG(status)}"
            yield {"number": numbers[0], "outcome": why, "detail": "", "place": "", "seconds": 0.0, **said}
            numbers = numbers[1:]


def _work(numbers: list[int], seeds: Path, root_seed: int, writing: int) -> None:
    try:
        from .cases import Targets, run_case

        targets = Targets(seeds)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, resource.RLIM_INFINITY))

        def tell(what: dict) -> None:
            os.write(writing, json.dumps(what).encode() + b"\n")

        for number in numbers:
            announce = lambda *what: tell(dict(zip(UNKNOWN, what, strict=True)))  # noqa: E731
            tell(asdict(run_case(number, targets, root_seed, announce)))
    except BaseException:  # noqa: BLE001 - the process ends here in any case
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(0)


def _report(outcomes: list[dict], given: argparse.Namespace) -> int:
    from .cases import FINE

    table: dict[str, Counter] = defaultdict(Counter)
    seconds: Counter = Counter()
    found: dict[tuple, list[dict]] = defaultdict(list)
    for result in outcomes:
        kind = result["outcome"] if result["outcome"] in FINE else "WRONG"
        table[result["seed"]][kind] += 1
        seconds[result["seed"]] += result["seconds"]
        if kind == "WRONG":
            place = result["place"] or f"{result['seed']} {result['target']}"
            found[result["outcome"], place].append(result)
    kinds = [*FINE, "WRONG"]
    print(f"{'':28}" + "".join(f"{kind:>16}" for kind in (*kinds, "seconds")))
    for seed in sorted(table):
        print(f"{seed:28}" + "".join(f"{table[seed][kind]:16}" for kind in kinds) + f"{seconds[seed]:16.1f}")
    total = sum(table.values(), Counter())
    print(
        f"{'all ' + str(len(outcomes)):28}"
        + "".join(f"{total[kind]:16}" for kind in kinds)
        + f"{seconds.total():16.1f}"
    )
    for (outcome, place), results in sorted(found.items(), key=lambda item: -len(item[1])):
        first = results[0]
        print(f"\n{len(results)} x {outcome} at {place}; for example case {first['number']}, again by:")
        print(f"  python -m tests.fuzzing --seed {given.seed} --case {first['number']}")
        print(f"  {first['target']} {first['seed']}: {first['damage'][:300]}")
        detail = first["detail"].strip()
        print("  " + (detail if given.case is not None else detail[-400:]).replace("\n", "\n  "))
    if given.json:
        given.json.write_text(json.dumps(outcomes))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
