#!/usr/bin/env python3
"""The data sets of the scRDiT paper, from GEO to .h5ad: downloaded (and resumed), checked, converted.

    python scripts/fetch_datasets.py gse103322 --out data        # head and neck tumours (Puram et al. 2017)
    python scripts/fetch_datasets.py gse181297 --out data        # keloids (Shim et al. 2022)

The download is urllib's: pooch, the usual choice, cannot resume; curl resumes without asking whether the file on the
server is still the one it began with (If-Range). Everything else is in scrdit_jax.data.
"""

from __future__ import annotations

import contextlib
import datetime
import gzip
import hashlib
import http.client
import json
import ssl
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

try:
    import click
    from tqdm import tqdm

    from scrdit_jax.cli import Commands, examples
    from scrdit_jax.data.checking import check_cells, listed, notes_of, with_notes
    from scrdit_jax.data.geo_archive import annotate, read_archive
    from scrdit_jax.data.geo_table import is_tumour_table, read_tumour_table
    from scrdit_jax.data.writing import write_cells
    from scrdit_jax.errors import BadInput, writing
    from scrdit_jax.files import check_parents, flush, remove, replacing, require_space
except ModuleNotFoundError as error:
    sys.exit(f"scrdit: {error.name} is not installed; pip install . (in the clone), then run this again")

GEO = "https://ftp.ncbi.nlm.nih.gov/geo/series"
LOCK = "datasets.lock.json"
CHUNK = 1 << 20
TIMEOUT_SECONDS = 60
ATTEMPTS = 5
WAIT_SECONDS = 2.0


BROKEN = (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file on GEO, and what the whole of it holds."""

    name: str
    url: str
    cells: int | None = None
    genes: int | None = None
    # Empty, because GEO publishes no checksums and nobody on the project has fetched the files yet. A digest put here
    # is required; until then the first download's is, by datasets.lock.json.
    sha256: str = ""
    # What others say it was when they fetched it: told to the user where it differs, and no more.
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


# Downloading.


class Interrupted(Exception):
    """The connection ended early; what has come is kept."""


def fetch(source: Source, folder: Path, *, url: str | None = None, sha256: str | None = None) -> Path:
    """The file in `folder`, whole and as expected; downloaded unless it is there, resumed where it broke off.

    Expected is the digest given, else the source's, else the one the lock file recorded when it first came.
    """
    url, path = url or source.url, folder / source.name
    try:
        return _fetch(source, folder, path, url, sha256)
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # only where nothing came


def _fetch(source: Source, folder: Path, path: Path, url: str, sha256: str | None) -> Path:
    recorded = _read_lock(folder).get(source.name, {})
    expected = (sha256 or source.sha256 or recorded.get("sha256", "")).lower()
    if path.is_dir():
        raise BadInput(f"{path} is a folder, where a file was to come; move it away, or choose another --out")
    if path.exists():
        digest = _digest(path)
        if expected and digest != expected:
            raise BadInput(
                f"{path} has SHA-256 {digest}, but {expected} is expected; it was changed or is damaged: delete it, "
                "and this command fetches it again"
            )
    else:
        with writing(path):
            folder.mkdir(parents=True, exist_ok=True)
            partial = _download(url, path)
        digest = _digest(partial)
        if expected and digest != expected:
            _discard(partial)
            raise BadInput(
                f"{url} has SHA-256 {digest}, but {expected} is expected; run this again, and if it repeats the file "
                f"was replaced there: then delete its entry in {folder / LOCK} to accept it"
            )
        try:
            _require_whole(partial, url)
        except BadInput:
            _discard(partial)
            raise
        with writing(path):
            flush(partial)
            partial.replace(path)
            _discard(partial)  # what vouched for it; until here a kill costs nothing
    if not recorded or recorded["sha256"] != digest:
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        _write_lock(folder, source.name, {"url": url, "bytes": path.stat().st_size, "sha256": digest, "fetched": today})
    known, where = source.sha256_elsewhere
    if known:
        agrees = "the same as" if known == digest else "NOT the same as"
        click.echo(f"SHA-256 {digest}: {agrees} {where} recorded")
    return path


def _download(url: str, path: Path) -> Path:
    """All bytes of `url` in a hidden file beside `path`, by as many connections as it takes."""
    partial = path.with_name(f".{path.name}.part")
    failures = 0
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        try:
            _continue(url, partial)
        except ValueError as error:
            raise BadInput(f"{url} is no address ({error}); it must begin with https://") from error
        except (Interrupted, *BROKEN) as error:
            code = getattr(error, "code", 500)
            if code < 500 and code not in (408, 429):
                raise BadInput(
                    f"{url} answers {code} {error.reason}; it has moved: find it on the series' page at GEO, then give "
                    "--url, or fetch it yourself and give --from"
                ) from error
            grown = partial.exists() and partial.stat().st_size > before
            failures = 0 if grown else failures + 1
            if failures >= ATTEMPTS:
                reason = getattr(error, "reason", None) or error
                raise BadInput(
                    f"{url} cannot be fetched ({reason}); what has come is kept: run the same command again to "
                    "continue, or fetch it yourself and give --from"
                ) from error
            seconds = WAIT_SECONDS * 2 ** max(failures - 1, 0)
            click.echo(f"{getattr(error, 'reason', None) or error}; trying again in {seconds:g} s", err=True)
            time.sleep(seconds)
        else:
            return partial


def _continue(url: str, partial: Path) -> None:
    """One connection: what is still missing, or all of it where the server cannot tell that it is the same file."""
    have = partial.stat().st_size if partial.exists() else 0
    validator = _validator_of(partial)
    began = validator.read_text() if validator.exists() else ""
    request = urllib.request.Request(url, headers={"User-Agent": "scrdit_jax fetch_datasets"})
    if have and began:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", began)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # everything is here already, or more than that
            raise
        total = str(error.headers.get("Content-Range", "")).rpartition("/")[2]
        if total == str(have):
            return
        remove(partial)
        raise Interrupted("the file on the server is shorter than what had come") from error
    with response:
        resumed = response.status == 206 and _starts_at(response, have)
        if response.status == 206 and not resumed:
            remove(partial)
            raise Interrupted("the server sent another part than was asked for")
        start = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        if total:
            require_space(partial.parent, total - start)
        if not resumed:
            remove(partial)
            tag = response.headers.get("ETag", "")
            strong = tag if not tag.startswith("W/") else ""  # a weak one does not vouch for bytes
            validator.write_text(strong or response.headers.get("Last-Modified", ""))
        got = _copy(response, partial, start, total)
        if total is not None and got != total:
            raise Interrupted(f"the connection ended after {got} of {total} bytes")


def _copy(response, partial: Path, start: int, total: int | None) -> int:
    label = f"fetching {partial.name[1:].removesuffix('.part')}"
    bar = tqdm(total=total, initial=start, desc=label, unit="B", unit_scale=True, disable=None, delay=1, leave=False)
    got = start
    with bar, partial.open("ab") as file:
        while True:
            try:
                chunk = response.read1(CHUNK)
            except http.client.IncompleteRead as error:
                chunk = error.partial
            if not chunk:
                return got
            file.write(chunk)
            got += len(chunk)
            bar.update(len(chunk))


def _starts_at(response, have: int) -> bool:
    return str(response.headers.get("Content-Range", "")).startswith(f"bytes {have}-")


def _validator_of(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.from")


def _discard(partial: Path) -> None:
    remove(partial)
    remove(_validator_of(partial))


def _require_whole(path: Path, url: str) -> None:
    """BadInput unless a .gz passes its own checksum, or a .tar can be listed to its end."""
    try:
        if url.endswith(".gz"):
            with gzip.open(path) as file:
                while file.read(CHUNK):
                    pass
        elif url.endswith(".tar"):
            with tarfile.open(path) as file:
                file.getmembers()
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
        raise BadInput(
            f"{url} came to its end but is not whole ({reason}); run this again, or open the address in a browser to "
            "see what the server sends"
        ) from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    with replacing(folder / LOCK) as partial:
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
    if cells.shape != (TUMOURS.cells, TUMOURS.genes) and not allow_partial:
        raise BadInput(
            f"{path} ends after line {6 + cells.n_vars} and holds {cells.n_obs} cells x {cells.n_vars} genes, but "
            f"GSE103322 has {TUMOURS.cells} x {TUMOURS.genes}; fetch it again, or give --allow-partial"
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
        raise BadInput(f"{given} has SHA-256 {digest}, but {sha256.lower()} is expected; fetch it again")
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
