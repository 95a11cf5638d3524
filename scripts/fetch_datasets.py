#!/usr/bin/env python3
"""The data sets of the scRDiT paper, from GEO to .h5ad: downloaded (and resumed), checked, converted.

    python scripts/fetch_datasets.py gse103322 --out data        # head and neck tumours (Puram et al. 2017)
    python scripts/fetch_datasets.py gse181297 --out data        # keloids (Shim et al. 2022)

How they are downloaded says downloading.py, how an archive is read geo_archive.py; here is where the files are, and
what they must be.
"""

from __future__ import annotations

import contextlib
import datetime
import gzip
import hashlib
import json
import sys
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

try:
    import click
    from downloading import download
    from geo_archive import annotate, read_archive

    from scrdit_jax.cli.main import Commands, examples
    from scrdit_jax.errors import BadInput, writing
    from scrdit_jax.io.atomic import atomic_write, check_parents
    from scrdit_jax.io.checking import check_cells, listed, notes_of, with_notes
    from scrdit_jax.io.readers.tumour_table import is_tumour_table, read_tumour_table
    from scrdit_jax.io.writing import write_cells
except ModuleNotFoundError as error:
    sys.exit(f"scrdit: {error.name} is not installed; pip install . (in the clone), then run this again")

GEO = "https://ftp.ncbi.nlm.nih.gov/geo/series"
LOCK = "datasets.lock.json"
CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file on GEO, and what the whole of it holds."""

    name: str
    url: str
    cells: int | None = None
    genes: int | None = None
    # Empty, because GEO publishes no checksums. A digest put here is required; until then the first download's is, by
    # datasets.lock.json.
    sha256: str = ""
    # What others say it was when they fetched it: said to the user, and no more.
    sha256_elsewhere: tuple[str, str] = ("", "")


TUMOURS = Source(
    name="GSE103322_HNSCC_all_data.txt.gz",
    url=f"{GEO}/GSE103nnn/GSE103322/suppl/GSE103322_HNSCC_all_data.txt.gz",
    cells=5902,
    genes=23686,
    sha256_elsewhere=(
        "51a5a3bb4f3ff8e326655ec613a10c9f895f9d5c943ce01c815303868b6e3a0b",
        "github.com/itmutiti/xenium-tcr-ecology, data/external/GSE103322/checksums.sha256",
    ),
)
PAPER_SPLIT = {"fibroblast": 1422, "malignant": 2215, "immune": 407}

KELOIDS = Source(name="GSE181297_RAW.tar", url=f"{GEO}/GSE181nnn/GSE181297/suppl/GSE181297_RAW.tar")
# GSM5494438, GSM5494439 and GSM5610149; the archive's other samples (Pt1, Pt2, NSV1, NSV2) are Visium slides.
KELOID_SAMPLES = {"Ke01": "keloid", "Ke02": "keloid", "NS02": "normal scar"}
PAPER_KELOID_CELLS = 1936


# Fetching.


def fetch(source: Source, folder: Path, *, url: str | None = None, sha256: str | None = None) -> Path:
    """The file in `folder`, whole and as expected; downloaded unless it is there, resumed where it broke off.

    Expected is the digest given, else the source's, else the one the lock file recorded when it came.
    """
    url, path, lock = url or source.url, folder / source.name, folder / LOCK
    recorded = _read_lock(folder).get(source.name, {}).get("sha256", "")
    otherwise = f"; if that repeats, the file was replaced there: delete its entry in {lock} to accept it"
    expected = Expected(recorded, f"recorded in {lock}", otherwise)
    if source.sha256:
        expected = Expected(source.sha256, "known to this script", ", or fetch it yourself and give --from")
    if sha256:
        expected = Expected(sha256, "given as --sha256", ", or give the right --sha256")

    def accept(partial: Path) -> None:
        digest = _check(partial, source.name, expected, called=url, again="run this command again")
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        entry = {"url": url, "bytes": partial.stat().st_size, "sha256": digest, "fetched": today}
        _write_lock(folder, source.name, entry)

    if path.is_dir():
        raise BadInput(f"{path} is a folder, where a file was to come; move it away, or choose another --out")
    if path.exists():
        digest = _check(path, source.name, expected, called=path, again=f"delete {path} and run this command again")
    else:
        remedy = "look for it on the series' page at GEO and give its --url, or fetch it yourself and give --from"
        try:
            with writing(path):
                folder.mkdir(parents=True, exist_ok=True)
            download(url, path, accept=accept, otherwise=remedy, say=lambda text: click.echo(text, err=True))
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only where nothing came
        digest = _digest(path)
    known, where = source.sha256_elsewhere
    if known:
        agrees = "the same as" if known == digest else "NOT the same as"
        click.echo(f"SHA-256 {digest}: {agrees} {where} recorded")
    return path


@dataclass(frozen=True)
class Expected:
    """A digest, "" where none is known; who says so; what may be done where it is another, beside fetching again."""

    sha256: str
    source: str
    otherwise: str


def _check(path: Path, name: str, expected: Expected, *, called: Path | str, again: str) -> str:
    """The digest of the file, which is expected and whole, as `name` tells: else BadInput with the remedy `again`."""
    digest = _digest(path)
    if expected.sha256 and digest != expected.sha256.lower():
        wrong = f"{called} has SHA-256 {digest}, but {expected.sha256} is expected, {expected.source}"
        raise BadInput(f"{wrong}; {again}{expected.otherwise}")
    if flaw := _flaw(path, name):
        raise BadInput(f"{called} is not whole ({flaw}); {again}, or fetch it with a browser and give --from")
    return digest


def _flaw(path: Path, name: str) -> str:
    """Why a .gz does not pass its own checksum, or a .tar cannot be listed to its end; "" for one that does."""
    try:
        if name.endswith(".gz"):
            with gzip.open(path) as file:
                while file.read(CHUNK):
                    pass
        elif name.endswith(".tar"):
            with tarfile.open(path) as file:
                file.getmembers()
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        return (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
    return ""


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}); give or fetch one that can") from error


def _read_lock(folder: Path) -> dict[str, dict]:
    path = folder / LOCK
    if not path.exists():
        return {}
    try:
        lock = json.loads(path.read_text())
        if not all(isinstance(entry["sha256"], str) for entry in lock.values()):
            raise TypeError("sha256 is no text")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} is damaged ({error}); delete it, and the digests are recorded anew") from error
    return lock


def _write_lock(folder: Path, name: str, entry: dict) -> None:
    lock = _read_lock(folder) | {name: entry}
    with atomic_write(folder / LOCK) as partial:
        partial.write_text(json.dumps(lock, indent=2) + "\n")


# The commands.


def source_options(source: Source) -> Callable:
    """The options every data set has."""

    def decorate(function: Callable) -> Callable:
        for option in (
            click.option("--sha256", metavar="HEX", help="Require this digest of the download."),
            click.option("--url", metavar="URL", help="Fetch it from a mirror.", show_default=True, default=source.url),
            click.option(
                "--from", "given", type=click.Path(path_type=Path), metavar="FILE", help=f"Your own {source.name}."
            ),
            click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for what comes."),
        ):
            function = option(function)
        return function

    return decorate


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """The data sets of the scRDiT paper as .h5ad, from GEO or from a file that is here already.

    A download that breaks off goes on where it was when the command is typed again. Its SHA-256 is kept in --out in
    datasets.lock.json, and required ever after.
    """


@main.command(
    short_help="Head and neck tumours: fibroblasts, malignant and immune cells.",
    epilog=examples(
        "python scripts/fetch_datasets.py gse103322 --out data",
        "python scripts/fetch_datasets.py gse103322 --from GSE103322_HNSCC_all_data.txt.gz --out data",
        "scrdit train data/gse103322.h5ad --cell-type Fibroblast --preset paper --out fibroblasts",
        "scrdit train data/gse103322.h5ad --cell-type-key paper_split --cell-type immune --preset paper --out immune",
    ),
)
@source_options(TUMOURS)
@click.option("--allow-partial", is_flag=True, help="Convert a table that lacks cells or genes of the whole.")
def gse103322(out: Path, given: Path | None, url: str, sha256: str | None, allow_partial: bool) -> None:
    """Head and neck tumours (Puram et al. 2017), 5,902 cells x 23,686 genes of log2(TPM/10 + 1), about 90 MB.

    obs.cell_type is the table's own annotation; obs.paper_split marks the paper's fibroblast, malignant and immune
    cells.
    """
    path = _given_or_fetched(given, TUMOURS, out, url, sha256)
    if not is_tumour_table(path):
        raise BadInput(f"{path} is not the table of GSE103322 (no annotation rows on top); give {TUMOURS.name}")
    cells = read_tumour_table(path)
    again = "give the whole file as --from" if given else f"delete {path} and run this command again"
    if cells.shape != (TUMOURS.cells, TUMOURS.genes) and not allow_partial:
        raise BadInput(
            f"{path} ends after line {6 + cells.n_vars} and holds {cells.n_obs} cells x {cells.n_vars} genes, but "
            f"GSE103322 has {TUMOURS.cells} x {TUMOURS.genes}; {again}, or give --allow-partial"
        )
    split = cells.obs["paper_split"].value_counts()
    counts = [f"{name} {split.get(name, 0)} (the paper: {paper})" for name, paper in PAPER_SPLIT.items()]
    _finish(cells, out / "gse103322.h5ad", path, [f"obs.paper_split: {', '.join(counts)}"])


@main.command(
    short_help="Keloids and a normal scar.",
    epilog=examples(
        "python scripts/fetch_datasets.py gse181297 --out data",
        "python scripts/fetch_datasets.py gse181297 --from GSE181297_RAW.tar --annotation my_types.csv --out data",
        "scrdit train data/gse181297.h5ad --cell-type-key condition --cell-type keloid --preset paper --out keloid",
    ),
)
@source_options(KELOIDS)
@click.option(
    "--annotation",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Cell types of your own: columns barcode (as Ke01_AAACCTGAGAAACCAT-1) and cell_type.",
)
@click.option(
    "--min-genes", type=click.IntRange(0), default=200, show_default=True, help="Leave out barcodes with fewer genes."
)
def gse181297(
    out: Path, given: Path | None, url: str, sha256: str | None, annotation: Path | None, min_genes: int
) -> None:
    """Keloids and a normal scar (Shim et al. 2022), 10x raw counts, of samples Ke01, Ke02 and NS02.

    obs.sample and obs.condition say where a cell is from. GEO is not known to have cell types for it:
    obs.cell_type is there only with --annotation.
    """
    if annotation is not None and not annotation.is_file():
        raise BadInput(f"{annotation} does not exist; it must be a .csv with the columns barcode and cell_type")
    path = _given_or_fetched(given, KELOIDS, out, url, sha256)
    cells = read_archive(path, KELOID_SAMPLES, min_genes=min_genes)
    if annotation is not None:
        cells = annotate(cells, annotation)
    keloid = int((cells.obs["condition"] == "keloid").sum())
    notes = [f"{keloid} keloid cells (the paper: {PAPER_KELOID_CELLS}; it does not say how they were chosen)"]
    if annotation is None:
        notes.append("no cell types: GEO is not known to have any; give --annotation, or use --cell-type-key condition")
    _finish(cells, out / "gse181297.h5ad", path, notes)


def _given_or_fetched(given: Path | None, source: Source, out: Path, url: str, sha256: str | None) -> Path:
    check_parents(out / source.name)
    if given is None:
        return fetch(source, out, url=url, sha256=sha256)
    if not given.is_file():
        raise BadInput(f"{given} is no file; give the path of {source.name}, or leave --from out to fetch it")
    if sha256 and (digest := _digest(given)) != sha256.lower():
        raise BadInput(
            f"{given} has SHA-256 {digest}, but {sha256.lower()} is expected, given as --sha256; give another file, or "
            "leave --from out to fetch it"
        )
    return given


def _finish(cells, path: Path, source: Path, notes: list[str]) -> None:
    """Write the .h5ad, which says where it came from, and tell what is in it."""
    kept = [f"converted from {source.name}, SHA-256 {_digest(source)}", *notes_of(cells)]
    cells = with_notes(check_cells(cells, str(source)), kept)
    write_cells(cells, path)
    for note in (*kept, *notes):
        click.echo(f"- {note}")
    columns = listed(f"obs.{name}" for name in cells.obs)
    click.echo(f"{cells.n_obs} cells x {cells.n_vars} genes ({columns}) written to {path}")


if __name__ == "__main__":
    main()
