import contextlib
import dataclasses
import gzip
import hashlib
import http.server
import importlib.util
import io
import json
import re
import sys
import tarfile
import threading
from pathlib import Path

import anndata
import downloading
import numpy as np
import pytest
from click.testing import CliRunner
from scipy import io as scipy_io
from scipy import sparse

from scrdit_jax.io.checking import notes_of
from scrdit_jax.io.reading import read_cells

SCRIPT = Path(__file__).parents[2] / "scripts" / "fetch_datasets.py"
TYPES = ["Fibroblast", "-Fibroblast", "0", "B cell", "0", "T cell"]
CANCER = ["0", "0", "1", "0", "0", "0"]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("fetch_datasets", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """No waiting between attempts, and pieces small enough that an interruption falls within the file."""
    monkeypatch.setattr(downloading, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(downloading, "CHUNK", 1024)


def tumour_table() -> bytes:
    rows = [
        ["", *(f"HN{i}_P1" for i in range(6))],
        ["processed by Maxima enzyme", *"101010"],
        ["Lymph node", *"010101"],
    ]
    rows += [["classified  as cancer cell", *CANCER], ["classified as non-cancer cells", *"110101"]]
    rows += [["non-cancer cell type", *TYPES]]
    values = np.random.default_rng(0).gamma(3, 1, (300, 6))
    rows += [[f"'G{j}'", *map(str, row)] for j, row in enumerate(values)]
    return gzip.compress("".join("\t".join(row) + "\n" for row in rows).encode())


def keloid_archive() -> bytes:
    matrix = io.BytesIO()
    scipy_io.mmwrite(matrix, sparse.csc_matrix(np.array([[5, 0], [1, 2], [0, 3]])))
    parts = {"matrix.mtx": matrix.getvalue(), "barcodes.tsv": b"AA-1\nAC-1\n", "features.tsv": b"E1\tA\nE2\tB\nE3\tC\n"}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as file:
        for sample in ("GSM5494438_Ke01", "GSM5494439_Ke02", "GSM5610149_NS02", "GSM5494440_Pt1"):
            for part, data in parts.items():
                data = gzip.compress(data)
                member = tarfile.TarInfo(f"{sample}_{part}.gz")
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
    return archive.getvalue()


TABLE, ARCHIVE = tumour_table(), keloid_archive()


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`, with ranges; `plan` is what goes wrong at each request in turn."""

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.tag, self.plan, self.seen = content, '"v1"', [], []
        self.url = f"http://127.0.0.1:{self.server_port}/file.gz"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.seen.append(wanted)
        trouble = server.plan.pop(0) if server.plan else None
        if isinstance(trouble, int) and trouble >= 400:
            self.send_error(trouble)
            return
        content, start = server.content, 0
        if wanted and self.headers.get("If-Range") == server.tag and trouble != "no ranges":
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        end = start + 3000 if trouble == "break" else len(content)
        with contextlib.suppress(ConnectionError):
            self.wfile.write(content[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server(TABLE) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def scrdit(script, tmp_path):
    """Types a command; returns its exit status and all it printed, which is one line where it failed."""

    def run(*words, status=0):
        result = CliRunner().invoke(script.main, [str(word) for word in words])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert result.exit_code == status, result.output
        if status:
            lines = [
                line for line in result.output.splitlines() if "trying again" not in line and "SHA" not in line[:4]
            ]
            assert len(lines) == 1
            assert lines[0].startswith("scrdit: ")
            assert not (tmp_path / "data" / "gse103322.h5ad").exists()
        return result.output

    return run


@pytest.fixture
def fetch(scrdit, server, tmp_path):
    def run(*words, status=0):
        return scrdit("gse103322", "--out", tmp_path / "data", "--url", server.url, "--allow-partial", *words,
                      status=status)  # fmt: skip

    return run


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


WHOLE = ["GSE103322_HNSCC_all_data.txt.gz", "datasets.lock.json", "gse103322.h5ad"]


def test_a_download_becomes_cells_to_train_on(fetch, tmp_path):
    said = fetch()
    folder = tmp_path / "data"
    assert names(folder) == WHOLE
    cells = anndata.read_h5ad(folder / "gse103322.h5ad")
    types = ["Fibroblast", "-Fibroblast", "malignant", "B cell", "unclassified", "T cell"]
    assert list(cells.obs["cell_type"]) == types
    assert list(cells.obs["lymph_node"]) == [False, True] * 3
    assert sparse.isspmatrix_csr(cells.X)
    assert "fibroblast 1 (the paper: 1422), malignant 1 (the paper: 2215), immune 1 (the paper: 407)" in said
    lock = json.loads((folder / "datasets.lock.json").read_text())["GSE103322_HNSCC_all_data.txt.gz"]
    assert lock["sha256"] == hashlib.sha256(TABLE).hexdigest()
    assert lock["bytes"] == len(TABLE)
    assert lock["sha256"] in cells.uns["scrdit_notes"][0]
    assert lock["sha256"] in notes_of(read_cells(folder / "gse103322.h5ad"))[0]
    assert "NOT the same as github.com/" in said


def test_what_is_there_is_not_fetched_again_but_checked(fetch, server, tmp_path):
    fetch()
    before = len(server.seen)
    fetch()
    assert len(server.seen) == before
    (tmp_path / "data" / "gse103322.h5ad").unlink()
    (tmp_path / "data" / WHOLE[0]).write_bytes(TABLE[:-1])
    message = fetch(status=2)
    assert f"recorded in {tmp_path / 'data' / 'datasets.lock.json'}; delete {tmp_path / 'data' / WHOLE[0]}" in message
    assert len(server.seen) == before


def test_what_was_put_there_is_checked_too_and_not_recorded_as_fetched(fetch, server, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / WHOLE[0]).write_bytes(TABLE[:-300])
    message = fetch(status=2)
    assert f"{folder / WHOLE[0]} is not whole (Compressed file ended" in message
    assert f"delete {folder / WHOLE[0]} and run this command again" in message
    (folder / WHOLE[0]).write_bytes(TABLE)
    fetch()
    assert server.seen == []
    assert names(folder) == [WHOLE[0], WHOLE[2]]


def test_a_damaged_line_is_mended_by_doing_what_it_says(fetch, server, tmp_path):
    folder = tmp_path / "data"
    server.content = gzip.compress(gzip.decompress(TABLE).replace(b"'G7'", b"'G7"))
    message = fetch(status=2)
    assert f"delete {folder / WHOLE[0]} and run scripts/fetch_datasets.py gse103322 again" in message
    (folder / WHOLE[0]).unlink()
    server.content = TABLE
    message = fetch(status=2)
    assert (
        f"if that repeats, the file was replaced there: delete its entry in {folder / 'datasets.lock.json'}" in message
    )
    (folder / "datasets.lock.json").write_text("{}")
    fetch()
    assert names(folder) == WHOLE


def test_a_mirror_whose_address_has_no_ending_is_checked_too(fetch, server, tmp_path):
    server.content = b"<html>maintenance</html>" * 400
    mirror = server.url.replace("file.gz", "get?id=5")
    assert f"{mirror} is not whole (Not a gzipped file" in fetch("--url", mirror, status=2)
    assert not (tmp_path / "data").exists()
    server.content = TABLE
    fetch("--url", mirror)


def test_a_connection_that_breaks_is_resumed_where_it_broke(fetch, server, tmp_path):
    server.plan = ["break", "break", 503]
    fetch()
    assert server.seen == [None, "bytes=3000-", "bytes=6000-", "bytes=6000-"]
    assert (tmp_path / "data" / WHOLE[0]).read_bytes() == TABLE
    assert names(tmp_path / "data") == WHOLE


def test_a_command_that_gave_up_goes_on_when_typed_again(fetch, server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloading, "ATTEMPTS", 1)
    server.plan = ["break", 503]
    message = fetch(status=2)
    assert "Service Unavailable" in message
    assert "what has come is kept: run the same command again" in message
    assert names(tmp_path / "data") == [f".{WHOLE[0]}.part", f".{WHOLE[0]}.part.from"]
    fetch()
    assert server.seen[-1] == "bytes=3000-"
    assert names(tmp_path / "data") == WHOLE


@pytest.mark.parametrize("how", ["other file", "no ranges", "no tag"])
def test_pieces_of_two_files_are_never_joined(fetch, server, tmp_path, monkeypatch, how):
    monkeypatch.setattr(downloading, "ATTEMPTS", 1)
    if how == "no tag":
        server.tag = ""
    server.plan = ["break", 503]
    fetch(status=2)
    if how == "other file":
        server.content, server.tag = tumour_table()[:-1] + b"\0", '"v2"'
        server.content = gzip.compress(gzip.decompress(TABLE).replace(b"'G7'", b"'H7'"))
    server.plan = ["no ranges"] if how == "no ranges" else []
    fetch()
    assert (tmp_path / "data" / WHOLE[0]).read_bytes() == server.content


def test_all_bytes_had_come_before_it_was_killed(fetch, server, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / f".{WHOLE[0]}.part").write_bytes(TABLE)
    (tmp_path / "data" / f".{WHOLE[0]}.part.from").write_text(server.tag)
    fetch()
    assert server.seen == [f"bytes={len(TABLE)}-"]
    assert (tmp_path / "data" / WHOLE[0]).read_bytes() == TABLE


def test_more_had_come_than_there_is(fetch, server, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / f".{WHOLE[0]}.part").write_bytes(TABLE + b"more")
    (tmp_path / "data" / f".{WHOLE[0]}.part.from").write_text(server.tag)
    fetch()
    assert (tmp_path / "data" / WHOLE[0]).read_bytes() == TABLE


def test_a_file_that_is_not_there(fetch, server, tmp_path):
    server.plan = [404]
    message = fetch(status=2)
    assert "answers 404 Not Found; it is not there: look for it on the series' page at GEO" in message
    assert len(server.seen) == 1
    assert not (tmp_path / "data").exists()


def test_a_server_that_does_not_recover(fetch, server):
    server.plan = [500] * 20
    assert "cannot be fetched (Internal Server Error)" in fetch(status=2)
    assert len(server.seen) == downloading.ATTEMPTS


def test_no_network(fetch, server, tmp_path):
    server.shutdown()
    server.server_close()
    message = fetch(status=2)
    assert "Connection refused" in message
    assert "fetch it yourself and give --from" in message
    assert names(tmp_path / "data") == []


def test_an_address_that_is_none(scrdit, tmp_path):
    assert "is no address" in scrdit("gse103322", "--out", tmp_path / "data", "--url", "nowhere", status=2)


@pytest.mark.parametrize("by", ["option", "table", "lock"])
def test_a_wrong_checksum_keeps_nothing(fetch, script, tmp_path, monkeypatch, by):
    if by == "table":
        changed = dataclasses.replace(script.TUMOURS, sha256="0" * 64)
        monkeypatch.setattr(script, "TUMOURS", changed)
    folder = tmp_path / "data"
    if by == "lock":
        folder.mkdir()
        (folder / "datasets.lock.json").write_text(json.dumps({WHOLE[0]: {"sha256": "0" * 64}}))
    message = fetch(*(["--sha256", "0" * 64] if by == "option" else []), status=2)
    assert f"has SHA-256 {hashlib.sha256(TABLE).hexdigest()}, but {'0' * 64} is expected" in message
    assert names(folder) == (["datasets.lock.json"] if by == "lock" else [])
    remedies = {"option": "give the right --sha256", "table": "give --from", "lock": "delete its entry in"}
    assert [name for name, remedy in remedies.items() if remedy in message] == [by]


def test_a_wrong_checksum_of_what_is_there_blames_who_said_so(fetch, server, tmp_path):
    fetch()
    (tmp_path / "data" / "gse103322.h5ad").unlink()
    message = fetch("--sha256", "0" * 64, status=2)
    assert f"delete {tmp_path / 'data' / WHOLE[0]} and run this command again, or give the right --sha256" in message
    assert "entry" not in message


def test_the_right_checksum_by_option(fetch):
    fetch("--sha256", hashlib.sha256(TABLE).hexdigest().upper())


def test_what_is_no_gz_is_not_kept(fetch, server, tmp_path):
    server.content = b"<html>maintenance</html>" * 400
    assert "is not whole (Not a gzipped file" in fetch(status=2)
    server.content = TABLE[:-300]
    assert "is not whole (Compressed file ended" in fetch(status=2)
    assert names(tmp_path / "data") == []


def test_a_damaged_lock(fetch, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "datasets.lock.json").write_text("{")
    assert "is damaged" in fetch(status=2)


def test_a_folder_that_is_a_file(scrdit, tmp_path):
    (tmp_path / "taken").write_text("mine")
    assert "is a file" in scrdit("gse103322", "--out", tmp_path / "taken", status=2)
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_file_of_the_users_own_needs_no_network(scrdit, tmp_path):
    path = tmp_path / "mine.txt.gz"
    path.write_bytes(TABLE)
    scrdit("gse103322", "--from", path, "--out", tmp_path / "new" / "data", "--allow-partial")
    assert names(tmp_path / "new" / "data") == ["gse103322.h5ad"]


@pytest.mark.parametrize(
    ("damage", "words", "message"),
    [
        (
            lambda data: data,
            [],
            r"mine.txt.gz ends after line 306 and holds 6 cells x 300 genes, but .* 5902 x 23686; give the whole",
        ),
        (
            lambda data: data[:-200],
            ["--allow-partial"],
            r"mine.txt.gz is cut short after line \d+ .*delete .*mine.txt.gz and run",
        ),
        (lambda data: gzip.compress(b"a\tb\nc\t1\n"), [], "is not the table of GSE103322"),
        (
            lambda data: gzip.compress(gzip.decompress(data).replace(b"'G7'", b"'G7")),
            [],
            "line 14 begins with .*quotes",
        ),
        (lambda data: data, ["--sha256", "0" * 64], "is expected, given as --sha256; give another file"),
    ],
)
def test_a_file_that_cannot_be_used(scrdit, tmp_path, damage, words, message):
    path = tmp_path / "mine.txt.gz"
    path.write_bytes(damage(TABLE))
    assert re.search(message, scrdit("gse103322", "--from", path, "--out", tmp_path / "data", *words, status=2))
    assert not (tmp_path / "data").exists()


def test_a_file_that_is_missing(scrdit, tmp_path):
    assert "is no file" in scrdit("gse181297", "--from", tmp_path / "x.tar", "--out", tmp_path / "data", status=2)


def test_keloids_by_a_file_address(scrdit, tmp_path):
    (tmp_path / "mirror.tar").write_bytes(ARCHIVE)
    said = scrdit(
        "gse181297", "--out", tmp_path / "data", "--url", (tmp_path / "mirror.tar").as_uri(), "--min-genes", 1
    )
    cells = anndata.read_h5ad(tmp_path / "data" / "gse181297.h5ad")
    assert list(cells.obs["condition"]) == ["keloid"] * 4 + ["normal scar"] * 2
    assert "cell_type" not in cells.obs
    assert "4 keloid cells (the paper: 1936" in said
    assert "no cell types: GEO is not known to have any" in said
    assert "other samples of the archive were left out: Pt1" in said
    assert cells.X.dtype == np.float32


def test_keloids_with_cell_types_of_the_users_own(scrdit, tmp_path):
    path, types = tmp_path / "mine.tar", tmp_path / "types.csv"
    path.write_bytes(ARCHIVE)
    types.write_text("barcode,cell_type\nKe01_AA-1,Fibroblast\n")
    words = ["gse181297", "--from", path, "--min-genes", 0, "--annotation", types, "--out", tmp_path / "data"]
    assert "1 of 6 cells have a cell type from types.csv" in scrdit(*words)
    cells = anndata.read_h5ad(tmp_path / "data" / "gse181297.h5ad")
    assert list(cells.obs["cell_type"]) == ["Fibroblast"] + ["unannotated"] * 5
    assert "does not exist" in scrdit(*words[:-3], tmp_path / "no.csv", *words[-2:], status=2)


def test_a_damaged_archive(scrdit, tmp_path):
    path = tmp_path / "mine.tar"
    path.write_bytes(ARCHIVE[:5000])
    words = ["gse181297", "--from", path, "--out", tmp_path / "data"]
    assert re.search(
        r"mine.tar is no whole archive .*; delete .*mine.tar and run scripts/fetch_datasets.py gse181297",
        scrdit(*words, status=2),
    )
    assert not (tmp_path / "data").exists()
