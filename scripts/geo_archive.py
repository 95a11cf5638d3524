"""GEO's archive of 10x samples (GSE..._RAW.tar), and cell types from a table of the user's own.

For each sample it holds GSM5494438_Ke01_matrix.mtx.gz, ..._barcodes.tsv.gz and ..._features.tsv.gz, beside whatever
else was handed in: only what is asked for is unpacked, into a temporary folder.
"""

from __future__ import annotations

import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData

from scrdit_jax.errors import BadInput, ScrditError, writing
from scrdit_jax.io.checking import listed, notes_of, with_notes
from scrdit_jax.io.damage import FILE_ERRORS
from scrdit_jax.io.readers.tenx_mtx import READER as TENX_FOLDER

MEMBER = re.compile(
    r"(?:GSM\d+_)?(?P<sample>.+)[_.-](?P<file>(?:matrix\.mtx|(?:barcodes|features|genes)\.tsv)(?:\.gz)?)"
)
FILES = ("matrix.mtx", "barcodes.tsv", "features.tsv")
UNANNOTATED = "unannotated"


def read_archive(path: Path, conditions: Mapping[str, str], *, min_genes: int = 0) -> AnnData:
    """Cells x genes of the samples named in `conditions`, X CSR of raw counts; other samples are left out.

    obs.sample is its name, obs.condition what `conditions` says of it; cells are called SAMPLE_BARCODE. Barcodes with
    fewer than `min_genes` genes above zero are left out. Genes that not all samples have are left out. BadInput where
    a sample or one of its files is missing or damaged.
    """
    try:
        with tarfile.open(path) as archive, tempfile.TemporaryDirectory() as folder, writing(folder):
            members = _members(archive)
            for sample in conditions:
                _unpack(archive, members, sample, Path(folder) / sample, path)
            samples, notes = {}, []
            for sample in conditions:
                samples[sample], sentence = _read_sample(Path(folder) / sample, sample, path, min_genes)
                notes += [sentence, *(f"{sample}: {note}" for note in notes_of(samples[sample]))]
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        # tarfile adds a line for every compression it tried.
        raise _damaged(path, (str(error) or type(error).__name__).splitlines()[0].rstrip(":")) from error
    for sample, cells in samples.items():
        cells.obs["sample"], cells.obs["condition"] = sample, conditions[sample]
    # The genes' identifiers and types stay where all samples agree on them.
    cells = anndata.concat(samples.values(), join="inner", merge="same")
    for name in ("sample", "condition"):
        cells.obs[name] = pd.Categorical(cells.obs[name])
    most = max(each.n_vars for each in samples.values())
    if cells.n_vars < most:
        notes.append(f"{most - cells.n_vars} of {most} genes are not in every sample and were left out")
    if others := sorted({sample for sample, _ in members} - set(conditions)):
        notes.append(f"other samples of the archive were left out: {listed(others)}")
    return with_notes(cells, notes)


def annotate(cells: AnnData, path: Path) -> AnnData:
    """The cells with obs.cell_type from a table with the columns barcode and cell_type (.csv or .tsv, also .gz).

    A barcode is a cell's name, or the part after its sample where only one sample has it. Cells that the table lacks
    become 'unannotated'. BadInput where columns are missing, a label is empty, a barcode fits no cell or several, or
    is named twice.
    """
    table = _read_annotation(path)
    names = cells.obs_names.to_series()
    bare = pd.Series([name[len(sample) + 1 :] for name, sample in zip(names, cells.obs["sample"], strict=True)])
    known = dict(zip(bare, names, strict=True)) | {name: name for name in names}
    ambiguous = set(bare[bare.duplicated()]) - set(names)
    labels: dict[str, str] = {}
    for number, (code, label) in enumerate(zip(table["barcode"], table["cell_type"], strict=True), start=2):
        if not code and not label:
            continue
        if code in ambiguous:
            raise _wrong(path, number, code, "is in several samples", f"write it as {_example(cells)!r}")
        if code not in known:
            raise _wrong(path, number, code, "fits no cell", f"cells are called as {_example(cells)!r}")
        if known[code] in labels:
            raise _wrong(path, number, code, "was named before", "leave one of the two out")
        if not label:
            raise _wrong(path, number, code, "has no cell type", "name one, or leave the line out")
        labels[known[code]] = label
    types = [labels.get(name, UNANNOTATED) for name in cells.obs_names]
    cells.obs["cell_type"] = pd.Categorical(types)
    return with_notes(
        cells, [*notes_of(cells), f"{len(labels)} of {cells.n_obs} cells have a cell type from {path.name}"]
    )


def _members(archive: tarfile.TarFile) -> dict[tuple[str, str], tarfile.TarInfo]:
    """(sample, matrix.mtx | barcodes.tsv | features.tsv), plain or .gz, to what is stored."""
    found = {}
    for member in archive.getmembers():
        match = MEMBER.fullmatch(Path(member.name).name)
        if match and member.isfile():
            found[match["sample"], match["file"].removesuffix(".gz").replace("genes.tsv", "features.tsv")] = member
    return found


def _unpack(archive: tarfile.TarFile, members: Mapping, sample: str, folder: Path, path: Path) -> None:
    folder.mkdir()
    for name in FILES:
        if (sample, name) not in members:
            there = listed(sorted({other for other, _ in members})) or "none"
            raise _damaged(path, f"it has no {name} of sample {sample}; its samples: {there}")
        member = members[sample, name]
        suffix = ".gz" if member.name.endswith(".gz") else ""
        with archive.extractfile(member) as source, (folder / (name + suffix)).open("wb") as target:
            shutil.copyfileobj(source, target)


def _read_sample(folder: Path, sample: str, path: Path, min_genes: int) -> tuple[AnnData, str]:
    try:
        cells = TENX_FOLDER.read(folder)
    except (ScrditError, *FILE_ERRORS) as error:
        reason = str(error).replace(f"{folder}/", "").replace(str(folder), sample)
        if isinstance(error, ScrditError):
            reason = reason.partition(";")[0]
        raise _damaged(path, f"sample {sample} cannot be read ({' '.join(reason.split())})") from error
    detected = np.asarray((cells.X > 0).sum(axis=1)).ravel()
    enough = detected >= min_genes
    if not enough.any():
        raise BadInput(f"{path}: no barcode of {sample} has {min_genes} genes above zero; lower --min-genes")
    sentence = f"{sample}: {int(enough.sum())} of {cells.n_obs} barcodes have at least {min_genes} genes above zero"
    kept = with_notes(cells[enough].copy(), notes_of(cells))
    kept.obs_names = [f"{sample}_{barcode}" for barcode in kept.obs_names]
    return kept, sentence


def _read_annotation(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise BadInput(f"{path} does not exist; it must be a .csv with the columns barcode and cell_type")
    separator = "\t" if path.name.lower().removesuffix(".gz").endswith((".tsv", ".txt")) else ","
    try:
        # Blank lines are read, so that lines are numbered as in the file.
        layout = {"sep": separator, "encoding": "utf-8-sig", "index_col": False, "skip_blank_lines": False}
        table = pd.read_csv(path, dtype=str, keep_default_na=False, **layout)
    except FILE_ERRORS as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"{path} is no table that can be read ({reason}); write it as barcode,cell_type") from error
    if missing := [name for name in ("barcode", "cell_type") if name not in table]:
        raise BadInput(
            f"{path} has no column {' nor '.join(missing)}, only {listed(table.columns)}; its first line must name the "
            "columns barcode and cell_type"
        )
    return table.apply(lambda column: column.str.strip())


def _example(cells: AnnData) -> str:
    return str(cells.obs_names[0])


def _wrong(path: Path, number: int, code: str, what: str, remedy: str) -> BadInput:
    return BadInput(f"{path}: line {number}: the barcode {code!r} {what}; {remedy}")


def _damaged(path: Path, reason: str) -> BadInput:
    remedy = f"delete {path} and run scripts/fetch_datasets.py gse181297 again"  # it fetches only what is not there
    return BadInput(f"{path} is no whole archive of 10x samples: {reason}; {remedy}")
