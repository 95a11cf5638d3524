"""A solver is one file: what the registry says of each, and one that is dropped into the folder."""

import subprocess
import sys

import anndata
import pytest

import scrdit_jax.sampling.solvers as package
from scrdit_jax.diffusion.timesteps import SCHEDULES
from scrdit_jax.errors import BadConfig
from scrdit_jax.sampling.solvers import SOLVERS, find_solver

TOY = '''
"""Always the clean cell that is predicted, with as much noise as the level it leads to has."""
import numpy as np
from scrdit_jax.sampling.solvers import Option, Solver, make_table


def toy(levels, eta=1.0):
    _, _, following = levels
    return make_table(levels, 0.0, np.sqrt(following), s=eta * np.sqrt(1 - following))


SOLVER = Solver(table=toy, options={"eta": Option(1.0)}, schedule="uniform", steps=3)
'''


@pytest.mark.parametrize("name", SOLVERS)
def test_what_a_solver_says_of_itself_can_be_had(name):
    solver = SOLVERS[name]
    assert solver.order in (1, 2, 3)
    assert solver.schedule in SCHEDULES
    assert solver.least_steps == (1 if solver.draws else 2)
    assert solver.steps is None or solver.steps >= solver.least_steps
    assert solver.benchmark_steps or solver.benchmark_accelerations
    assert all(steps >= solver.least_steps for steps in solver.benchmark_steps)
    for option in solver.options.values():
        assert not option.choices or option.default in option.choices


def test_names_are_listed_without_importing_a_solver_or_jax():
    code = "import sys; from scrdit_jax.registry import SOLVERS; print(*SOLVERS); assert 'numpy' not in sys.modules"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == list(SOLVERS)


def test_a_file_in_the_folder_is_a_solver_of_the_command_line(scrdit, tiny_run, add_part):
    with pytest.raises(BadConfig, match="no solver 'toy-solver'; there are ddim, "):
        find_solver("toy-solver")
    add_part(package, "toy_solver", TOY)
    words = ("sample", tiny_run.path, "--cells", 6, "--solver", "toy-solver", "--batch-size", 6)
    status, printed = scrdit(*words, "--out", "a.h5ad")
    assert status == 0, printed
    assert scrdit(*words, "--eta", 0, "--steps", 2, "--out", "b.h5ad")[0] == 0
    default, other = anndata.read_h5ad("a.h5ad"), anndata.read_h5ad("b.h5ad")
    assert '"toy-solver"' in str(default.uns)
    assert default.shape == (6, 24)
    assert (default.X != other.X).nnz
    status, printed = scrdit(*words, "--variance", "beta", "--out", "c.h5ad")
    assert status == 2
    assert "solver toy-solver takes no variance" in printed
