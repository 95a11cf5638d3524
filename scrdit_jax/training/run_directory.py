"""The run directory: its lock while it is trained into, and whether a run may be continued."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..checkpoint import Checkpoints, Run
from ..config import RunConfig
from ..data.metadata import DatasetMetadata
from ..data.preparing import Prepared
from ..errors import OutputExists, RunMismatch, ScrditError, writing
from ..io.atomic import check_parents
from ..io.locks import FileLocks
from ..io.writing import write_cells
from ..privacy import key_path
from .multihost import broadcast_text, is_primary


@contextlib.contextmanager
def locked(run: Run, config: RunConfig) -> Iterator[None]:
    """Lock the run directory while the block runs; the lock ends with the process, even by kill -9.

    Raises OutputExists if another process has the lock or the directory holds something that is no run, RunMismatch if
    it holds a run that `config` cannot continue. Of processes that train together the first locks for all.
    """
    with raise_everywhere():
        if is_primary():
            check_parents(run.path)
            _require_continuable(run, config)
            new = not run.path.exists()
            with writing(run.path):
                run.path.mkdir(parents=True, exist_ok=True)
                locks = FileLocks(run.lock_path)
            if not locks.acquire(0):
                locks.close()
                raise OutputExists(
                    f"another 'scrdit train' is at work in {run.path}; wait for it or give another --out"
                )
    if not is_primary():
        yield
        return
    try:
        # Another process may have started a run here meanwhile.
        _require_continuable(run, config)
        yield
    except BaseException:
        if new and set(run.path.iterdir()) == {run.lock_path}:
            run.lock_path.unlink()
            run.path.rmdir()
        raise
    finally:
        locks.close()


@contextlib.contextmanager
def raise_everywhere() -> Iterator[None]:
    """What stops the first of several processes here stops all of them."""
    problem: ScrditError | None = None
    try:
        yield
    except ScrditError as error:
        problem = error
    reason = broadcast_text("" if problem is None else str(problem))
    if problem is not None:
        raise problem
    if reason:
        raise RunMismatch(f"the first process stopped: {reason}")


def initialise(run: Run, prepared: Prepared, config: RunConfig) -> None:
    """Write what every run has from the start: its settings, and the held-out cells, once."""
    if not run.config_path.is_file() or run.config() != config:
        run.write_config(config)
    if not run.held_out_path.exists():
        write_cells(prepared.held_out, run.held_out_path, compress=True)


def require_same_origin(checkpoints: Checkpoints, config: RunConfig, metadata: DatasetMetadata) -> None:
    """RunMismatch where the newest checkpoint was made by another network, with other settings or on other cells."""
    run, step = checkpoints.run, checkpoints.latest()
    made_by, made_on = checkpoints.origin()
    if differences := config.differences_to(made_by):
        raise RunMismatch(
            f"checkpoint {step} of {run.path} was made by another model ({differences[0]}); give another --out, or "
            f"delete {run.checkpoints_path / str(step)} if it does not belong there"
        )
    if made_on.digest != metadata.digest:
        raise RunMismatch(
            f"{run.path} was trained on other cells, or their files have changed since; give the same data, or another "
            "--out"
        )


def _begun_from(origin: str | None, earlier: str | None) -> str:
    """What is wrong where a run that was begun from the model `earlier` is to continue as one begun from `origin`."""
    if origin is None:
        return "holds a run that trains another further; name that one as --from"
    if earlier is None:
        return "holds a run that was not begun from another"
    return f"was begun from a model with digest {earlier[:12]}, and --from now holds one with {origin[:12]}"


def _require_continuable(run: Run, config: RunConfig) -> None:
    if run.path.exists() and not run.path.is_dir():
        raise OutputExists(f"{run.path} is a file; give a folder for the run as --out")
    if run.config_path.is_file():
        earlier = run.config()
        if differences := config.differences_to(earlier):
            remedy = "give another --out"
            if differences[0].startswith("origin"):
                raise RunMismatch(f"{run.path} {_begun_from(config.origin, earlier.origin)}; {remedy}")
            if differences[0].startswith("training.steps") and config.training.steps > earlier.training.steps:
                remedy = "a cosine rate depends on how many steps there are, so a run cannot be lengthened: " + remedy
            raise RunMismatch(f"{run.path} holds a run of other settings ({differences[0]}); {remedy}")
        return
    known = {run.lock_path, run.cells_path, key_path(run.path)}
    if run.path.is_dir() and any(path not in known and not path.name.startswith(".") for path in run.path.iterdir()):
        raise OutputExists(f"{run.path} holds something that is no run; give an empty or new folder as --out")
