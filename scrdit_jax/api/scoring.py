"""How good synthetic cells are, and how fast they come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anndata import AnnData

from ..checkpoint import Run
from ..config import RunConfig
from ..devices import use_every_core
from ..errors import BadConfig, enough_memory
from ..io.reading import Data
from .arguments import checked
from .training import settings

if TYPE_CHECKING:
    from ..evaluation.report import Report


@checked
@enough_memory("give it fewer cells")
def evaluate(
    real: Run | Data,
    synthetic: AnnData | Path | str,
    *,
    out: Path | str | None = None,
    seed: int = 0,
    repeats: int = 5,
    donor_key: str | None = None,
) -> Report:
    """Score synthetic cells against real cells never trained on, beside real-vs-real and genes-shuffled.

    Parameters
    ----------
    real
        The run (its held-out cells are used), or cells in any form `train` takes: of those, the ones the model was
        trained on are left out of the comparison, and say whether the model copies them, or gives them away.
    synthetic
        The cells, or their file.
    out
        Folder for report.html, report.json and the pictures.
    seed
        Of the random splits, the forest and the t-SNE.
    repeats
        Random splits to average over.
    donor_key
        Column of obs with donors, to ask whether a donor's cells were trained on; None: that of the model, if whole
        donors were held out. A donor must have training cells, or held-out ones, but not both.

    Returns
    -------
    Report
        Prints as tables.

    Raises
    ------
    BadInput, GeneMismatch, MissingExtra, OutputExists

    Examples
    --------
    >>> report = scrdit.evaluate(run, cells, repeats=2)
    >>> print(report.summary())
    A random forest tells these cells from real ones with AUC ...
    """
    from ..evaluation.cells import compared_cells
    from ..evaluation.report import evaluate as report

    cells = compared_cells(real.path if isinstance(real, Run) else real, synthetic)
    return report(cells, out=None if out is None else Path(out), seed=seed, repeats=repeats, donor_key=donor_key)


@checked
@enough_memory("lower --batch-size")
def benchmark(
    run: Run | Path | str | None = None,
    *,
    out: Path | str,
    preset: str | RunConfig | None = None,
    cases: Sequence[str] = (),
    dtype: str | None = None,
    batch_size: int | None = None,
    seeds: int = 3,
    repeats: int = 5,
) -> str:
    """Time every sampler on the devices at hand and score its cells, into the folder `out`.

    Parameters
    ----------
    run, preset
        A trained run; or a preset whose network is timed with random weights.
    out
        Folder; what is there already is not measured again.
    cases
        Names or shell patterns: ``"ddpm-1000"``, ``"unipc-*"``. Without any, all.
    dtype
        What the network computes in; None: bfloat16 on a GPU or TPU, else float32.
    batch_size
        Cells in a batch; None: the fastest.
    seeds
        Samples to score of each case.
    repeats
        Least number of timed batches a case.

    Returns
    -------
    str
        The table, Markdown.

    Raises
    ------
    BadConfig, OutputExists, MissingExtra
    """
    from ..benchmarking.harness import Settings
    from ..benchmarking.run import run_benchmark

    use_every_core()
    if (run is None) == (preset is None):
        raise BadConfig("give a run to benchmark, or a preset (--preset) for its network with random weights")
    source: Path | RunConfig
    if preset is not None:
        source = settings(preset)
    elif run is not None:
        source = run.path if isinstance(run, Run) else Path(run)
    chosen = Settings(dtype=dtype, batch_size=batch_size, seeds=seeds, repeats=repeats)
    return run_benchmark(source, Path(out), chosen, patterns=cases)
