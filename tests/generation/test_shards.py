"""Folders of shards, by one process and by several: the same cells however they came about, and no damage unseen."""

import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace

import anndata
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scrdit_jax as scrdit
from scrdit_jax.checkpoint import load_model
from scrdit_jax.conditioning.request import Quotas
from scrdit_jax.errors import BadConfig, BadInput, DiskFull, OutputExists, ScrditError
from scrdit_jax.generation import writers
from scrdit_jax.generation.engine import Engine
from scrdit_jax.generation.fill import fill
from scrdit_jax.generation.store import ShardWriter, Store
from scrdit_jax.io.append import CellBlock, to_csr
from scrdit_jax.sampling.sampler import cell_keys, cell_noise

CELLS = 700
OPTIONS = {"steps": 4, "batch_size": 64, "shard_cells": 128}
COMMAND = "from scrdit_jax.cli import main; main()"


@pytest.fixture(scope="module")
def atlas(tiny_run, tmp_path_factory):
    """A finished folder that tests must not write into."""
    return scrdit.generate(tiny_run, CELLS, out=tmp_path_factory.mktemp("atlas") / "atlas", **OPTIONS).path


@pytest.fixture(scope="module")
def digest(atlas):
    return scrdit.verify(atlas).digest


def words(run, out, *more, cells=CELLS, options=OPTIONS):
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, "-c", COMMAND, "sample", str(run.path), "--cells", str(cells), "--out", str(out)]
    return [*command, *flags, *map(str, more)]


def start(*arguments, **options):
    return subprocess.Popen(words(*arguments, **options), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    text, _ = process.communicate(timeout=100)
    assert process.returncode == 0, text
    return text


def cells_in(path):
    parts = [anndata.read_h5ad(shard) for shard in sorted((path / "shards").glob("*.h5ad"))]
    return np.concatenate([part.X.toarray() for part in parts]), [name for part in parts for name in part.obs_names]


def test_a_folder_holds_the_cells_that_memory_would(tiny_run, atlas):
    cells, names = cells_in(atlas)
    in_memory = scrdit.sample(tiny_run, CELLS, steps=4, batch_size=64)
    np.testing.assert_array_equal(cells, in_memory.X.toarray())
    assert names == list(in_memory.obs_names)
    assert sorted(path.name for path in (atlas / "shards").iterdir())[::2] == [f"shard-0000{i}.h5ad" for i in range(6)]
    lines = scrdit.api.describe(atlas)
    assert lines[0] == "700 synthetic cells x 24 genes"
    assert lines[3].startswith("6 of 6 shards of 128 cells")
    assert scrdit.api.describe(atlas / "shards/shard-00005.h5ad")[0].startswith("cells 640 to 699 of 700 synthetic")


def test_zeros_and_order_survive_csr():
    dense = np.random.default_rng(0).normal(size=(7, 5)).clip(0).astype(np.float32)
    dense[3] = 0
    np.testing.assert_array_equal(to_csr(dense).toarray(), dense)
    assert to_csr(dense).has_canonical_format
    assert to_csr(dense[3:4]).nnz == 0


def test_the_digest_is_that_of_the_cells_whatever_the_shards_were_written_with(tiny_run, digest, tmp_path, monkeypatch):
    monkeypatch.setattr("scrdit_jax.io.append.H5_STORAGE", {"chunks": (100,), "compression": "lzf"})
    out = scrdit.generate(tiny_run, CELLS, out=tmp_path / "lzf", **OPTIONS).path
    assert scrdit.verify(out).digest == digest
    other = scrdit.generate(tiny_run, CELLS, out=tmp_path / "seed", seed=1, **OPTIONS).path
    assert scrdit.verify(other).digest != digest


def test_batch_sizes_give_the_same_cells_to_rounding(tiny_run, tmp_path):
    # Of a drawn gene, rounding may decide on rare occasions whether it is there; predicted means are continuous.
    options = OPTIONS | {"solver": "dpmpp-2m"}
    narrow = scrdit.generate(tiny_run, CELLS, out=tmp_path / "narrow", **options).path
    options |= {"batch_size": 256, "shard_cells": 256}
    wide = scrdit.generate(tiny_run, CELLS, out=tmp_path / "wide", **options).path
    np.testing.assert_allclose(cells_in(wide)[0], cells_in(narrow)[0], rtol=1e-4, atol=1e-4)


def test_what_was_begun_keeps_its_batch_size(tiny_run, tmp_path, monkeypatch):
    options = {"steps": 4, "shard_cells": 64}
    out = scrdit.generate(tiny_run, 200, out=tmp_path / "a", **options).path
    plan = json.loads((out / "manifest.json").read_text())["plan"]
    (out / "shards/shard-00000.h5ad").unlink()
    monkeypatch.setattr("scrdit_jax.generation.tuning.fastest_batch_size", None)  # must not be asked again
    assert scrdit.generate(tiny_run, 200, out=out, **options).made == min(plan["shard_cells"], 200)
    assert not scrdit.verify(out).problems


def test_the_same_request_continues_and_another_is_refused(tiny_run, atlas, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in (atlas / "shards").iterdir()}
    summary = scrdit.generate(tiny_run, CELLS, out=atlas, **OPTIONS)
    assert summary.made == 0
    assert str(summary) == f"700 cells in {atlas}"
    for changed, difference in (({"steps": 5}, "steps 4, not 5"), ({"seed": 3}, "seed 0, not 3")):
        with pytest.raises(OutputExists, match=rf"atlas holds the cells of another request \({difference}\); choose"):
            scrdit.generate(tiny_run, CELLS, out=atlas, **(OPTIONS | changed))
    with pytest.raises(OutputExists, match=r"\(cells 700, not 701\)"):
        scrdit.generate(tiny_run, CELLS + 1, out=atlas, **OPTIONS)
    assert {path: path.stat().st_mtime_ns for path in (atlas / "shards").iterdir()} == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    with pytest.raises(OutputExists, match="mine is there already and holds no shards"):
        scrdit.generate(tiny_run, CELLS, out=tmp_path / "mine", **OPTIONS)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_other_weights_are_another_request(tiny_run, atlas):
    from scrdit_jax.config import SamplingConfig

    model = load_model(tiny_run)
    params = jax.tree.map(lambda leaf: leaf + 1e-6, model.params)
    changed = type(model)(model.config, model.metadata, params, model.step)
    with pytest.raises(OutputExists, match=r"another request \(model digest [0-9a-f]{60}"):
        fill(changed, Quotas.unlabelled(CELLS), SamplingConfig(steps=4, batch_size=64), atlas)


def test_a_full_disk_stops_with_one_line_and_goes_on_to_the_same_cells(tiny_run, digest, tmp_path, monkeypatch):
    whole, batches = ShardWriter._finish, []

    def full(self):
        if self._shard.index == 1:
            raise OSError(28, "No space left on device")
        return whole(self)

    out = tmp_path / "a"
    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "_finish", full)
        patch.setattr(writers, "MOST_WAITING", 1)
        patch.setattr(writers, "ROWS_AT_ONCE", OPTIONS["batch_size"])
        dispatch = Engine.dispatch
        patch.setattr(Engine, "dispatch", lambda *args: batches.append(args[1]) or dispatch(*args))
        with pytest.raises(DiskFull, match=r"no space left while writing .*a; free some and run the same command"):
            scrdit.generate(tiny_run, CELLS, out=out, **OPTIONS)
    # The fourth batch fails; the other writer gets two, the seventh waits for the one that failed, one is on its way.
    assert len(batches) <= 8 < 11
    there = {path.stem for path in (out / "shards").iterdir()}
    assert "shard-00000" in there
    assert there <= {"shard-00000", "shard-00002"}
    assert "unfinished" in scrdit.api.describe(out)[-1]
    assert scrdit.generate(tiny_run, CELLS, out=out, **OPTIONS).made == CELLS - 128 * len(there)
    assert scrdit.verify(out).digest == digest


class Fresh(io.BytesIO):
    """In the place of memory that is written to again."""

    def empty(self):
        self.seek(0)
        self.truncate()

    content = io.BytesIO.getbuffer


@pytest.mark.parametrize("count", [1, 3])
def test_shards_are_the_same_files_whatever_wrote_them(tiny_run, atlas, tmp_path, monkeypatch, count):
    monkeypatch.setattr(writers, "WRITERS", count)
    monkeypatch.setattr("scrdit_jax.generation.store.MemoryFile", Fresh)
    out = scrdit.generate(tiny_run, CELLS, out=tmp_path / "a", **OPTIONS).path
    for path in (atlas / "shards").iterdir():
        assert (out / "shards" / path.name).read_bytes() == path.read_bytes()


def test_a_writer_that_failed_writes_nothing_more(atlas, tmp_path):
    """Shard 1 lacks its first batch; what is left of it and the beginning of shard 3 are as many cells as a whole."""
    written = []
    with Store(atlas) as finished, Store(tmp_path / "a", finished.manifest) as store, ThreadPoolExecutor(2) as executor:
        shards = list(store.lock_each(store.plan.shards()))
        writer = writers._Writer(
            ShardWriter(store, executor), store, 0, lambda cells, record: written.append((cells, record is not None))
        )
        batch, lost = Future(), Future()
        batch.set_result(CellBlock(to_csr(np.ones((64, 24), np.float32)), np.zeros((64, 0), np.int32)))
        lost.set_exception(MemoryError("lost"))
        for shard, block in ((0, batch), (0, batch), (1, lost), (1, batch), (3, batch)):
            writer.submit(shards[shard], block)
        with pytest.raises(MemoryError, match="lost"):
            writer.raise_first(leave=0)
        writer.thread.shutdown()
    assert written == [(64, False), (64, True)]
    assert {path.stem for path in (tmp_path / "a/shards").iterdir()} == {"shard-00000"}


def test_a_run_that_cannot_fit_is_refused_after_one_batch(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr("scrdit_jax.io.atomic.shutil.disk_usage", lambda path: SimpleNamespace(free=10_000))
    with pytest.raises(DiskFull, match=r"no space left to write .*a: 0\.\d MB are needed, 0\.0 MB are free"):
        scrdit.generate(tiny_run, CELLS, out=tmp_path / "a", **OPTIONS)
    assert list((tmp_path / "a/shards").iterdir()) == []


@pytest.mark.parametrize("place", ["start", "middle", "end", "record"])
def test_a_flipped_byte_is_found_and_repaired(tiny_run, digest, tmp_path, place):
    out = scrdit.generate(tiny_run, CELLS, out=tmp_path / "a", **OPTIONS).path
    path = out / "shards" / ("shard-00003.json" if place == "record" else "shard-00003.h5ad")
    data = bytearray(path.read_bytes())
    position = {"start": 100, "middle": len(data) // 2, "end": len(data) - 1, "record": len(data) // 2}[place]
    data[position] ^= 1
    path.write_bytes(data)
    (out / "shards/shard-00001.h5ad").unlink()
    found = scrdit.verify(out)
    assert [problem[:7] for problem in found.problems] == ["shard 1", "shard 3"]
    assert found.digest is None
    with pytest.raises(OutputExists, match=r"shard \d of .* is damaged|holds 5 of 6 shards"):
        scrdit.assemble(out, out=tmp_path / "cells.h5ad")
    found = scrdit.verify(out, repair=tiny_run)
    assert found.repaired
    assert found.digest == digest
    assert not found.notes or place == "record"
    assert scrdit.verify(out).problems == ()


def test_a_changed_manifest_is_refused(tiny_run, tmp_path):
    out = scrdit.generate(tiny_run, 20, out=tmp_path / "a", **OPTIONS).path
    path = out / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(OutputExists, match=r"manifest\.json cannot be read \(it was changed after it was written\)"):
        scrdit.verify(out)


@pytest.mark.parametrize("name", ["cells.h5ad", "cells.zarr"])
def test_the_assembled_file_is_an_anndata_like_any_other(tiny_run, atlas, tmp_path, name):
    import scanpy

    path = scrdit.assemble(atlas, out=tmp_path / name)
    in_memory = scrdit.sample(tiny_run, CELLS, steps=4, batch_size=64)
    if name.endswith("h5ad"):
        backed = anndata.read_h5ad(path, backed="r")
        assert backed.isbacked
        assert backed.shape == (CELLS, 24)
        np.testing.assert_array_equal(backed[650:660].to_memory().X.toarray(), in_memory.X[650:660].toarray())
        backed.file.close()
    cells = anndata.read_h5ad(path) if name.endswith("h5ad") else anndata.io.read_zarr(path)
    np.testing.assert_array_equal(cells.X.toarray(), in_memory.X.toarray())
    assert list(cells.obs_names) == list(in_memory.obs_names)
    assert list(cells.var_names) == list(in_memory.var_names)
    assert dict(cells.uns["scrdit"]) == in_memory.uns["scrdit"]
    scanpy.pp.calculate_qc_metrics(cells, inplace=True, percent_top=None)
    assert (cells.obs["n_genes_by_counts"] == in_memory.X.getnnz(axis=1)).all()
    stamp = path.stat().st_mtime_ns
    assert scrdit.assemble(atlas, out=path).stat().st_mtime_ns == stamp
    (tmp_path / "mine.h5ad").write_text("mine")
    with pytest.raises(OutputExists, match="holds no synthetic cells"):
        scrdit.assemble(atlas, out=tmp_path / "mine.h5ad")


def test_mistakes_are_named(tiny_run, tmp_path):
    with pytest.raises(OutputExists, match="holds no shards of synthetic cells; give a folder made by"):
        scrdit.verify(tmp_path)
    with pytest.raises(BadConfig, match=r"cells\.h5ad is one file; several processes write to a folder of shards"):
        scrdit.generate(tiny_run, 5, out=tmp_path / "cells.h5ad", distributed=True)
    with pytest.raises(BadConfig, match="there is no process 2 among 2"):
        scrdit.generate(tiny_run, 5, out=tmp_path / "a", distributed=True, processes=2, process_id=2)
    with pytest.raises(BadConfig, match="go together"):
        scrdit.generate(tiny_run, 5, out=tmp_path / "a", distributed=True, processes=2)
    with pytest.raises(BadConfig, match="are for --distributed"):
        scrdit.generate(tiny_run, 5, out=tmp_path / "a", processes=2, process_id=0)
    with pytest.raises(BadInput, match=r"ends in '\.csv'"):
        scrdit.generate(tiny_run, 5, out=tmp_path / "cells.csv")
    assert list(tmp_path.iterdir()) == []


def test_no_two_of_a_million_cells_start_from_the_same_noise():
    first_noise = jax.jit(lambda indices: cell_noise(cell_keys(jax.random.key(0), indices), 0, 4))
    starts = np.concatenate([first_noise(jnp.arange(i, i + 250_000)) for i in range(0, 1_000_000, 250_000)])
    assert len(np.unique(np.ascontiguousarray(starts).view("V16"))) == 1_000_000


def test_two_processes_at_once_share_the_work(tiny_run, digest, tmp_path):
    """One pair meets at a coordinator, as processes of one job; the other happens to be started twice."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        meeting = f"localhost:{free.getsockname()[1]}"
    job = ("--distributed", "--coordinator", meeting, "--processes", 2, "--process-id")
    for name, first, second in (("job", (*job, 0), (*job, 1)), ("twice", (), ())):
        out = tmp_path / name
        for process in (start(tiny_run, out, *first), start(tiny_run, out, *second)):
            assert f"700 cells in {out}" in finish(process)
        assert scrdit.verify(out).digest == digest
        assert not list((out / "shards").glob(".*"))


def test_a_process_that_is_given_its_number_waits_for_nobody(tiny_run, digest, tmp_path):
    summary = scrdit.generate(
        tiny_run, CELLS, out=tmp_path / "a", distributed=True, processes=3, process_id=1, **OPTIONS
    )
    assert summary.made == CELLS
    assert scrdit.verify(summary.path).digest == digest


def killed_until_done(run, out, kills, *, cells, options, seed):
    """Start the command, kill it while it is at work, again and again; at last let it finish."""
    chance = random.Random(seed)
    for kill in range(kills):
        process = start(run, out, cells=cells, options=options)
        there, patience = len(list(out.glob("shards/*.json"))), time.monotonic() + 300
        # Every third dies at any moment from its start on; the others after one more shard at least.
        if kill % 3:
            while len(list(out.glob("shards/*.json"))) == there and process.poll() is None:
                assert time.monotonic() < patience
                time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.4 if kill % 3 else 6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finish(start(run, out, cells=cells, options=options))


@pytest.mark.parametrize(
    ("kills", "cells", "solver"),
    [
        (2, 8_000, "distributional"),
        pytest.param(3, 12_000, "distributional", marks=pytest.mark.slow),
        pytest.param(30, 200_000, "distributional", marks=pytest.mark.slow),
        pytest.param(3, 12_000, "dpmpp-2m", marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_moment_it_ends_with_the_cells_of_an_undisturbed_run(tiny_run, tmp_path, kills, cells, solver):
    options = {"solver": solver, "steps": 10, "batch_size": 64, "shard_cells": max(512, cells // 100)}
    killed_until_done(tiny_run, tmp_path / "killed", kills, cells=cells, options=options, seed=os.getpid())
    undisturbed = scrdit.generate(tiny_run, cells, out=tmp_path / "undisturbed", **options).path
    found = scrdit.verify(tmp_path / "killed")
    assert found.problems == ()
    assert found.digest == scrdit.verify(undisturbed).digest
    ranges = [json.loads(path.read_text()) for path in sorted((tmp_path / "killed/shards").glob("*.json"))]
    covered = np.concatenate([np.arange(r["first"], r["first"] + r["cells"]) for r in ranges])
    np.testing.assert_array_equal(covered, np.arange(cells))
    assert not list((tmp_path / "killed/shards").glob(".*"))


def test_a_killed_single_file_goes_on_from_its_shards(tiny_run, tmp_path, monkeypatch):
    def dies(*_):
        raise KeyboardInterrupt

    out = tmp_path / "cells.h5ad"
    with monkeypatch.context() as patch:
        patch.setattr("scrdit_jax.generation.fill.assemble", dies)
        with pytest.raises(KeyboardInterrupt):
            scrdit.generate(tiny_run, 30, out=out, steps=4)
    with pytest.raises(OutputExists, match=r"\.cells\.h5ad\.shards holds the cells of another request .*or delete"):
        scrdit.generate(tiny_run, 31, out=out, steps=4)
    assert scrdit.generate(tiny_run, 30, out=out, steps=4).made == 0
    assert [path.name for path in tmp_path.iterdir()] == ["cells.h5ad"]


def test_verify_on_the_command_line_says_what_is_wrong(tiny_run, tmp_path):
    from click.testing import CliRunner

    from scrdit_jax.cli import main

    out = scrdit.generate(tiny_run, 300, out=tmp_path / "a", **OPTIONS).path
    (out / "shards/shard-00002.json").unlink()
    result = CliRunner().invoke(main, ["verify", str(out)])
    assert result.exit_code == 2
    assert "shard 2: missing" in result.output
    assert "--repair RUN" in result.output
    result = CliRunner().invoke(main, ["verify", str(out), "--repair", str(tiny_run.path)])
    assert result.exit_code == 0
    assert "1 made again; 300 cells in 3 shards are sound" in result.output
    assert issubclass(OutputExists, ScrditError)
