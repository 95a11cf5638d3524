"""Strict JAX, two fake CPU devices, and one tiny trained run that many tests share."""

import atexit
import os
import shutil
import sys
import tempfile
from importlib.metadata import version

# Before JAX is imported: sharded == unsharded is then a unit test on any machine.
# Tests compile much and compute little: spare the optimising passes, and threads, which the workers have taken.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    " --xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    " --xla_llvm_disable_expensive_passes=true --xla_cpu_parallel_codegen_split_count=1"
)
# The older of two ways to compile a fusion takes half the time; newer releases have one way, and refuse the flag.
if version("jaxlib").startswith("0.10."):
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
os.environ["JAX_PLATFORMS"] = "cpu"
# What tests find out about the machine is no business of the user's own cache. Workers and the processes that tests
# start share it, and the compiled programs: the same tiny ones are needed by many, and compiling once is enough.
if "SCRDIT_TEST_CACHE" not in os.environ:
    os.environ["SCRDIT_TEST_CACHE"] = tempfile.mkdtemp(prefix="scrdit_tests_")
    atexit.register(shutil.rmtree, os.environ["SCRDIT_TEST_CACHE"], ignore_errors=True)
os.environ["SCRDIT_CACHE"] = os.path.join(os.environ["SCRDIT_TEST_CACHE"], "measured")
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(os.environ["SCRDIT_TEST_CACHE"], "programs")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import anndata
import jax
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import sparse

from scrdit_jax.cli import main
from scrdit_jax.config import RunConfig

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Compiled programs hold memory maps; at Linux's 65,530 of a process, which the suite reaches, XLA dies."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session", autouse=True)
def one_pair_of_ends():
    """Runs with enough held-out cells have timesteps fitted when they are trained: few are tried here."""
    from scrdit_jax.generation import fitting

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "FIRST", (-4.0,))
        patch.setattr(fitting, "LAST", (1.0,))
        patch.setattr(fitting, "CARRIED_STEPS", (2,))
        yield


@pytest.fixture
def scrdit(tmp_path, monkeypatch):
    """Runs `scrdit ...` in an empty folder; returns (exit status, all that was printed)."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        result = CliRunner().invoke(main, [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return run


@pytest.fixture
def add_part(tmp_path, monkeypatch):
    """Puts a file `name`.py with this text into a `package` of parts, for one test: see scrdit_jax.registry."""
    added = []

    def add(package, name, text):
        folder = tmp_path / "parts" / package.__name__
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.py").write_text(text)
        if str(folder) not in package.__path__:
            monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        added.append((package, name))

    yield add
    # What was imported meanwhile is forgotten.
    for package, name in added:
        sys.modules.pop(f"{package.__name__}.{name}", None)
        vars(package).pop(name, None)


@pytest.fixture(scope="session")
def tiny_config() -> RunConfig:
    """A preset-like config that trains in seconds: 24 genes, T = 20, 12 steps."""
    return RunConfig.from_dict(
        {
            "data": {"genes": 24, "min_cells": 3, "held_out": 0.4},
            "network": {"genes_per_token": 4, "width": 16, "depth": 2, "heads": 2, "summary_token": True},
            "diffusion": {"timesteps": 20, "beta_start": 0.01, "beta_end": 0.6, "prediction": "zero-inflated"},
            "training": {
                "steps": 12, "batch_size": 8, "learning_rate": 0.002, "learning_rate_schedule": "cosine",
                "warmup_steps": 2, "gradient_clip": 1.0, "ema_decay": 0.9, "log_snr_mean": 0.0, "log_snr_std": 2.0,
                "stratified_levels": True, "checkpoint_every": 5, "log_every": 4,
            },
        }
    )  # fmt: skip


@pytest.fixture(scope="session")
def tiny_cells() -> anndata.AnnData:
    """90 cells x 40 genes of raw counts with two cell types, CSR."""
    random = np.random.default_rng(7)
    types = random.integers(0, 2, size=90)
    means = random.gamma(0.7, 3.0, size=(2, 40)) + 0.2
    counts = random.poisson(means[types]).astype(np.float32)
    obs = pd.DataFrame(
        {"cell_type": pd.Categorical(np.array(["T cell", "B cell"])[types])}, index=[f"cell{i}" for i in range(90)]
    )
    return anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"GENE{j}" for j in range(40)]))


@pytest.fixture(scope="session")
def tiny_run(tiny_cells, tiny_config, tmp_path_factory):
    """The run of `tiny_config` on `tiny_cells`, trained once a session; tests must not write into it."""
    import scrdit_jax as scrdit

    return scrdit.train(tiny_cells, out=tmp_path_factory.mktemp("runs") / "tiny", preset=tiny_config)


@pytest.fixture(scope="session")
def labelled_cells(tiny_cells) -> anndata.AnnData:
    """`tiny_cells` with a second column of labels; donor d2 gave no B cells."""
    cells = tiny_cells.copy()
    b_cell = (cells.obs["cell_type"] == "B cell").to_numpy()
    donors = np.where(b_cell, "d1", np.random.default_rng(8).choice(["d1", "d2"], size=cells.n_obs))
    cells.obs["donor"] = pd.Categorical(donors, categories=["d2", "d1"])
    return cells


@pytest.fixture(scope="session")
def labelled_run(labelled_cells, tiny_config, tmp_path_factory):
    """A run that knows cell type and donor; tests must not write into it."""
    import scrdit_jax as scrdit

    out = tmp_path_factory.mktemp("runs") / "labelled"
    # Fast enough that labels matter after 12 steps.
    changes = {"condition_on": ["cell_type", "donor"], "learning_rate": 0.02, "warmup_steps": 0}
    return scrdit.train(labelled_cells, out=out, preset=tiny_config, **changes)
