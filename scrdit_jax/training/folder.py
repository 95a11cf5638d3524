"""The run's folder: whose it is while it is trained into, and whether a run may be continued."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pandas as pd

from ..checkpoint import Checkpoints, Run
from ..claims import Claims
from ..config import RunConfig
from ..data.conditions import label_codes
from ..data.preparing import Facts, Prepared
from ..data.writing import write_cells
from ..errors import OutputExists, RunMismatch, ScrditError, writing
from ..files import check_parents
from .hosts import agreed_text, writes


@contextlib.contextmanager
def claimed(run: Run, config: RunConfig) -> Iterator[None]:
    """Keep others from training into the folder while the block runs, be they ended by kill -9.

    Raises OutputExists if another process has it or it holds something that is no run, RunMismatch if it holds a run
    that `config` cannot continue. Of processes that train together the first claims for all.
    """
    with together():
        if writes():
            check_parents(run.path)
            _require_ours(run, config)
            new = not run.path.exists()
            with writing(run.path):
                run.path.mkdir(parents=True, exist_ok=True)
                claims = Claims(run.lock_path)
            if not claims.take(0):
                claims.close()
                raise OutputExists(
                    f"another 'scrdit train' is at work in {run.path}; wait for it or give another --out"
                )
    if not writes():
        yield
        return
    try:
        # Another may have begun a run here while we waited.
        _require_ours(run, config)
        yield
    except BaseException:
        if new and set(run.path.iterdir()) == {run.lock_path}:
            run.lock_path.unlink()
            run.path.rmdir()
        raise
    finally:
        claims.close()


@contextlib.contextmanager
def together() -> Iterator[None]:
    """What stops the first of several processes here stops all of them."""
    problem: ScrditError | None = None
    try:
        yield
    except ScrditError as error:
        problem = error
    told = agreed_text("" if problem is None else str(problem))
    if problem is not None:
        raise problem
    if told:
        raise RunMismatch(f"the first process stopped: {told}")


def begin(run: Run, prepared: Prepared, config: RunConfig) -> None:
    """Write what a run has from its beginning: settings, and the held-out cells, once."""
    if not run.config_path.is_file() or run.config() != config:
        run.write_config(config)
    if not run.held_out_path.exists():
        write_cells(prepared.held_out.copy(), run.held_out_path)


def require_same_origin(checkpoints: Checkpoints, config: RunConfig, facts: Facts) -> None:
    """RunMismatch where the newest checkpoint was made by another network, with other settings or on other cells."""
    run, step = checkpoints.run, checkpoints.latest()
    made_by, made_on = checkpoints.origin()
    if differences := config.differences_to(made_by):
        raise RunMismatch(
            f"checkpoint {step} of {run.path} was made by another model ({differences[0]}); give another --out, or "
            f"delete {run.checkpoints_path / str(step)} if it does not belong there"
        )
    if made_on.digest != facts.digest:
        raise RunMismatch(f"{run.path} was trained on other cells; give the same data, or another --out")


def about_cells(obs: pd.DataFrame, facts: Facts) -> dict[str, np.ndarray]:
    """Of every training cell its library size (float32), its cell-type code (int32, -1 without types; order of
    facts.cell_types) and its labels (cell, column) int32, those of facts.told; one column of -1 where nothing is.
    """
    codes = np.full(len(obs), -1, np.int32)
    if facts.cell_type_key is not None:
        codes = pd.Categorical(obs[facts.cell_type_key], categories=list(facts.cell_types)).codes.astype(np.int32)
    # Orbax keeps no empty arrays.
    labels = label_codes(obs, facts.told) if facts.told else np.full((len(obs), 1), -1, np.int32)
    return {"library_size": obs["library_size"].to_numpy(np.float32), "cell_type_code": codes, "labels": labels}


def _require_ours(run: Run, config: RunConfig) -> None:
    if run.path.exists() and not run.path.is_dir():
        raise OutputExists(f"{run.path} is a file; give a folder for the run as --out")
    if run.config_path.is_file():
        begun = run.config()
        if differences := config.differences_to(begun):
            remedy = "give another --out"
            if differences[0].startswith("training.steps") and config.training.steps > begun.training.steps:
                remedy = "a cosine rate depends on how many steps there are, so a run cannot be lengthened: " + remedy
            raise RunMismatch(f"{run.path} holds a run of other settings ({differences[0]}); {remedy}")
        return
    ours = {run.lock_path, run.cells_path}
    if run.path.is_dir() and any(path not in ours and not path.name.startswith(".") for path in run.path.iterdir()):
        raise OutputExists(f"{run.path} holds something that is no run; give an empty or new folder as --out")
