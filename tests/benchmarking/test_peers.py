"""Peers are one file each: a toy one is measured from the command line, and one that cannot be used says why."""

import json
import sys

import pytest
from click.testing import CliRunner

from benchmarks import peers
from benchmarks.fidelity import __main__ as fidelity
from benchmarks.fidelity import comparing, figures, generators
from benchmarks.fidelity.cell_sets import CellSet, Source
from benchmarks.peers import PEERS, Skipped
from scrdit_jax.errors import MissingExtra

pytestmark = pytest.mark.usefixtures("small")

TOY_PEER = """
import numpy as np

from benchmarks.peers import Made, Peer


def make(cells, count, seed):
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 0.1, (count, cells.training.shape[1]))
    return Made(np.float32(cells.training[rng.integers(len(cells.training), size=count)] + noise))


PEER = Peer(make=make, settings={"noise": 0.1})
"""


@pytest.fixture(scope="module")
def path(tiny_cells, tmp_path_factory):
    """90 cells with types."""
    path = tmp_path_factory.mktemp("peers") / "tiny.h5ad"
    tiny_cells.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def cells(path, tiny_config):
    return CellSet.read(Source(str(path)), tiny_config.data, "both", multiple_of=4)


def test_a_new_peer_is_one_file(path, tiny_config, tmp_path, monkeypatch):
    (tmp_path / "toy_noise.py").write_text(TOY_PEER)
    monkeypatch.setattr(peers, "__path__", [*peers.__path__, str(tmp_path)])
    monkeypatch.setattr(figures, "pictures", lambda *given: {})
    # What ours are trained to is no matter here.
    monkeypatch.setattr(fidelity, "ours_from_preset", lambda name, *given: generators.controls()[0])
    (tmp_path / "tiny.json").write_text(json.dumps(tiny_config.to_dict()))
    out = tmp_path / "out"
    words = ("--data", path, "--preset", tmp_path / "tiny.json", "--on", "both", "--seeds", 1, "--novelty", 0)
    assert list(PEERS) == ["copula", "knn-bootstrap-16", "knn-bootstrap-4", "scvi", "scvi-prior", "toy-noise"]
    try:
        result = CliRunner().invoke(fidelity.main, [*map(str, words), "--peer", "toy-noise", "--out", str(out)])
    finally:
        sys.modules.pop("benchmarks.peers.toy_noise", None)
    assert result.exit_code == 0, result.output
    rows = json.loads((out / "results.json").read_text())["rows"]
    (row,) = (row for row in rows if row["generator"] == "toy-noise")
    assert row["made_by"]["settings"] == {"noise": 0.1}
    assert "| toy-noise |" in result.output


@pytest.mark.parametrize("neighbours", [4, 16])
def test_the_knn_bootstrap_is_scored_with_types_and_seen_to_be_near_training_cells(cells, neighbours, monkeypatch):
    monkeypatch.setattr(comparing, "ENOUGH_TRAINING", 20)
    peer = PEERS[f"knn-bootstrap-{neighbours}"]
    assert peer.settings["neighbours"] == neighbours
    made = peer(cells, 80, 0)
    row = comparing.score_cells("knn-bootstrap", made, cells, 0)
    assert row["types_by"] == "generator"
    assert set(row["types"]) == {"B cell", "T cell"}
    assert row["memorisation"]["copied"] > row["memorisation"]["held_out_copied"]


def test_a_peer_whose_library_is_missing_says_how_to_install_it(cells, monkeypatch):
    def missing(module, *, extra):
        raise MissingExtra(f"{module} is not installed; run: pip install 'scrdit_jax[{extra}]'")

    monkeypatch.setattr(peers, "optional", missing)
    for name in ("scvi", "scvi-prior"):
        with pytest.raises(Skipped, match=r"scvi is not installed; run: pip install 'scrdit_jax\[fidelity\]'"):
            PEERS[name](cells, 10, 0)


def test_a_peer_of_counts_cannot_use_log_values(cells, tiny_cells, tiny_config, tmp_path):
    logged = tiny_cells.copy()
    logged.X = logged.X.log1p()
    logged.write_h5ad(tmp_path / "log.h5ad")
    logged = CellSet.read(Source(str(tmp_path / "log.h5ad")), tiny_config.data, "both", multiple_of=4)
    with pytest.raises(Skipped, match="needs raw counts"):
        _ = logged.training_counts
