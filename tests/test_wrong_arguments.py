"""Wrong arguments of every public function and wrong options of every command: one line, and no traceback."""

import inspect
import time
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from scrdit_jax import api
from scrdit_jax.api.arguments import RULES
from scrdit_jax.checkpoint import Run
from scrdit_jax.cli import main
from scrdit_jax.config import RunConfig
from scrdit_jax.errors import ScrditError

CELLS = anndata.AnnData(np.ones((2, 3), np.float32))
NAN = float("nan")
# What is no path, no run and no cells.
NONE_OF_THEM = (
    None,
    5,
    1.5,
    True,
    b"path",
    ["path"],
    np.zeros(3),
    {"path": 1},
    object(),
    "",
    "a\0b",
    "\ud800",
    "x" * 5000,
)


def settings():
    yield from (
        ((preset,), {}) for preset in (None, 5, b"demo", ["demo"], CELLS, "", "dmo", "a\0b", "x.json", "x" * 999)
    )
    for changes in (
        {"steps": None},
        {"steps": "5"},
        {"steps": NAN},
        {"steps": 10**400},
        {"genes": True},
        {"genes": [5]},
        {"stepz": 5},
        {"standardize": "no"},
        {"condition_on": "abc"},
        {"condition_on": None},
        {"condition_on": 5},
        {"cell_types": "abc"},
        {"cell_types": [5]},
        {"cell_types": b"abc"},
        {"derive": 5},
        {"derive": {"pc-scores": "x"}},
        {"derive": {5: 5}},
        {"seed": -1},
        {"seed": 2**64},
        {"timesteps": 10**12},
        {"architecture": 5},
        {"architecture": ["dit"]},
        {"teacher": 5},
        {"teacher": CELLS},
        {"width": 10**9},
        {"dtype": np.float32},
        {"learning_rate": "fast"},
        {"zero_value": NAN},
        {"normalize": None},
        {"evaluate_every": 0},
        {"patience": 3},
        {"mlp_ratio": 1e-9},
    ):
        yield (), changes


def prepare():
    yield from (((data,), {}) for data in (*NONE_OF_THEM[:5], *NONE_OF_THEM[6:], [], [None], ["a", 5], "missing.h5ad"))
    for changes in ({"transpose": "yes"}, {"stream": 1}, {"preset": CELLS}, {"genes": 0}, {"genez": 5}, {"out": "x"}):
        yield (CELLS,), changes


def train():
    yield from (((CELLS,), {"out": out}) for out in NONE_OF_THEM)
    yield from (((data,), {"out": "run"}) for data in (None, 5, b"x", [], object()))
    for changes in (
        {"from_run": 5},
        {"from_run": CELLS},
        {"max_minutes": NAN},
        {"max_minutes": 0},
        {"max_minutes": "5"},
        {"max_minutes": -1},
        {"tensorboard": 1},
        {"distributed": "yes"},
        {"processes": 0, "process_id": 0},
        {"distributed": True, "processes": 2, "process_id": 2},
        {"distributed": True, "process_id": -1, "processes": 2},
        {"processes": 2.0},
        {"coordinator": 5},
        {"coordinator": "nowhere", "distributed": True},
        {"on_notes": "print"},
        {"per_cell_type": None},
        {"seed": -1},
        {"seed": 2**64},
        {"batch_size": 0},
        {"batch_size": 2**40},
        {"keep": 0},
        {"distributed": True, "coordinator": "localhost:99999", "processes": 1},
        {"from_run": "missing"},
    ):
        yield (CELLS,), {"out": "run", **changes}


OPTIONS = (
    {"cells": 0},
    {"cells": -1},
    {"cells": 10**15},
    {"cells": 2**70},
    {"cells": "5"},
    {"cells": 1.5},
    {"cells": True},
    {"cells": NAN},
    {"cells": [5]},
    {"cells": None},
    {"seed": -1},
    {"seed": 2**64},
    {"seed": "0"},
    {"seed": 1.5},
    {"steps": 0},
    {"steps": 10**12},
    {"steps": "5"},
    {"steps": 21},
    {"acceleration": NAN},
    {"acceleration": 0.5},
    {"acceleration": 1e30},
    {"schedule": 5},
    {"schedule": "missing"},
    {"schedule": "a\0b"},
    {"eta": NAN},
    {"eta": "x"},
    {"eta": 0.5},
    {"variance": 5},
    {"variance": "gamma", "solver": "ddpm"},
    {"batch_size": 0},
    {"batch_size": -5},
    {"batch_size": 2**40},
    {"dtype": 5},
    {"dtype": "int4"},
    {"dtype": ["float32"]},
    {"solver": 5},
    {"solver": "euler"},
    {"solver": ["ddim"]},
    {"guidance": NAN},
    {"guidance": float("inf")},
    {"guidance": 1e30},
    {"guidance": "2"},
    {"guidance": -1},
    {"guidance": 2},
    {"guidance": {"a": NAN}},
    {"guidance": {5: 2}},
    {"guidance": [["a", 1, 2]]},
    {"output": 5},
    {"output": "raw"},
    {"depth": 100},
    {"depth": NAN, "output": "counts"},
    {"depth": 1e30},
    {"cell_types": 5},
    {"cell_types": ["a", 5]},
    {"cell_types": ["T cell"]},
    {"cell_types": ["a", "a"]},
    {"conditions": 5},
    {"conditions": "donor=d1"},
    {"conditions": {"a": 5}},
    {"conditions": {5: "a"}},
    {"conditions": {"a": "b"}},
    {"per_type": 5},
    {"per_type": [5]},
    {"per_type": {"a": 5}},
    {"per_type": "missing.csv"},
    {"match": 5},
    {"match": b"x"},
    {"match": CELLS},
    {"on_notes": "print"},
    {"stepz": 5},
)


def sample():
    yield from (((run, 5), {}) for run in (*NONE_OF_THEM, CELLS, Run(5), Run(None), "missing"))
    yield from ((("TINY",), {"cells": 5, **options}) for options in OPTIONS)
    yield ("TINY",), {"cells": 3_999_999_999}  # no memory holds them


def generate():
    yield from ((("TINY", 5), {"out": out}) for out in (*NONE_OF_THEM, "cells.csv", "missing/\0"))
    yield from ((("TINY",), {"cells": 5, "out": "cells.h5ad", **options}) for options in OPTIONS[::3])
    for changes in (
        {"shard_cells": 0},
        {"shard_cells": -1},
        {"shard_cells": 2**70},
        {"shard_cells": "5"},
        {"distributed": 1},
        {"processes": 2, "process_id": 2, "distributed": True},
        {"processes": 2, "process_id": 0},
        {"ray": 5},
        {"processes": 2, "process_id": -1, "distributed": True},
        {"ray": "local", "distributed": True},
        {"coordinator": "nowhere", "distributed": True},
        {"cells": 3_999_999_999, "shard_cells": 1, "batch_size": 1},
    ):
        yield ("TINY",), {"cells": 5, "out": "shards", **changes}


def simulate():
    yield from (((run, 5), {}) for run in (*NONE_OF_THEM, CELLS, Run(5), Run(None), "missing"))
    yield from ((("TINY",), {"cells": 5, **options}) for options in OPTIONS[::4])
    for changes in (
        {"de_share": 2},
        {"de_share": "x"},
        {"de_share": NAN},
        {"log2_fold_change": -1},
        {"log2_fold_change": (1, 2, 3)},
        {"log2_fold_change": (2, 1)},
        {"log2_fold_change": {"a": 1}},
        {"up_share": -0.1},
        {"groups": 0},
        {"groups": 1, "de_share": 0.1},
        {"de_by": 5},
        {"de_by": "", "de_share": 0.1},
        {"de_by": "missing", "de_share": 0.1},
        {"de_cell_types": "abc", "de_share": 0.1},
        {"batches": 0},
        {"batches": 10**9},
        {"batch_strength": 1.0},
        {"batch_strength": NAN, "batches": 2},
        {"depth_factor": 0},
        {"doublets": 1.5},
        {"ambient": 1},
        {"effects_seed": -1},
        {"schema": "loom"},
        {"output": "log"},
        {"out": 5},
        {"out": "cells.csv"},
        {"proportions": 5},
        {"proportions": {}},
        {"proportions": {"T cell": NAN}},
        {"proportions": {"T cell": 0}},
        {"proportions": {5: 1}},
        {"proportions": {"T cell": 1}, "cells": None},
        {"cells": 3_999_999_999},
    ):
        yield ("TINY",), {"cells": 5, **changes}


def evaluate():
    yield from (((real, CELLS), {}) for real in (*NONE_OF_THEM, "missing", Run(Path("missing"))))
    yield from (((CELLS, synthetic), {}) for synthetic in (*NONE_OF_THEM, "missing.h5ad", Run(Path("a"))))
    for changes in (
        {"seed": -1},
        {"seed": 2**64},
        {"seed": NAN},
        {"repeats": 0},
        {"repeats": 10**9},
        {"repeats": "5"},
        {"repeats": None},
        {"out": 5},
        {"out": b"x"},
        {"out": CELLS},
    ):
        yield (CELLS, CELLS), changes


def benchmark():
    yield from (((run,), {"out": "speed"}) for run in (*NONE_OF_THEM, CELLS, "missing"))
    yield (None,), {"out": "speed"}
    yield ("TINY",), {"out": "speed", "preset": "demo"}
    for changes in (
        {"batch_size": 0},
        {"batch_size": -5},
        {"batch_size": "5"},
        {"seeds": 0},
        {"seeds": 10**9},
        {"repeats": 0},
        {"repeats": 10**9},
        {"dtype": "int4"},
        {"dtype": 5},
        {"cases": "ddpm-20"},
        {"cases": ["no-such"]},
        {"cases": [5]},
        {"cases": None},
        {"out": None},
        {"seeds": None},
        {"run": None, "preset": 5},
        {"run": None, "preset": "dmo"},
    ):
        yield (), {"run": "TINY", "out": "speed", **changes}


def verify():
    yield from (((path,), {}) for path in (*NONE_OF_THEM, "missing", CELLS, "."))
    yield from ((("missing",), {"repair": run}) for run in NONE_OF_THEM[1:])


def assemble():
    yield from (((path,), {"out": "cells.h5ad"}) for path in (*NONE_OF_THEM, "missing", "."))
    yield from ((("missing",), {"out": out}) for out in (*NONE_OF_THEM, "cells.csv"))


def fit_schedule():
    yield from (((run, 4), {}) for run in (*NONE_OF_THEM, "missing", CELLS))
    yield from ((("TINY", steps), {}) for steps in (0, -1, 10**12, "4", 1.5, None, NAN, True, 30))
    for changes in ({"seed": -1}, {"seed": 2**64}, {"solver": 5}, {"solver": "euler"}, {"solver": ""}, {"out": 5}):
        yield ("TINY", 4), changes


def import_torch():
    yield from (((path,), {"out": "run"}) for path in (*NONE_OF_THEM, "missing.pt", "."))
    for changes in (
        {"out": 5},
        {"out": None},
        {"heads": 0},
        {"heads": -1},
        {"heads": "8"},
        {"heads": 2**70},
        {"genes": 5},
        {"genes": [5]},
        {"genes": b"x"},
        {"zero_value": NAN},
        {"zero_value": "x"},
        {"zero_value": 5},
        {"key": 5},
        {"first_timestep": 2},
        {"first_timestep": "0"},
        {"first_timestep": None},
    ):
        yield ("missing.pt",), {"out": "run", **changes}


def pretrained():
    yield from (
        ((name,), {"out": "run"}) for name in (None, 5, b"pbmc3k", ["pbmc3k"], "", "no", "../pbmc3k", "x" * 5000)
    )
    yield from ((("pbmc3k",), {"out": out}) for out in NONE_OF_THEM)


def load_preset():
    yield from (((name,), {}) for name in (None, 5, b"demo", ["demo"], "", "../demo", "a\0b", "x" * 5000, ".", ".json"))


def write_prepared():
    yield from (((prepared, "x.h5ad"), {}) for prepared in (None, 5, CELLS, "x.h5ad", RunConfig()))


def describe():
    yield from (((path,), {}) for path in (*NONE_OF_THEM, "missing", CELLS, Run(Path("x"))))


FUNCTIONS = (
    settings,
    prepare,
    train,
    sample,
    generate,
    evaluate,
    benchmark,
    verify,
    assemble,
    simulate,
    fit_schedule,
    import_torch,
    pretrained,
    load_preset,
    write_prepared,
    describe,
)


def outcome(call, folder: Path) -> str | None:
    """What is wrong with how a call is refused; None where nothing is."""
    started = time.monotonic()
    try:
        call()
    except ScrditError as error:
        text = str(error)
        if not text or len(text.splitlines()) > 1 or len(text) > 1000:
            return f"no short line: {text[:900]}"
    except Exception as error:  # noqa: BLE001
        return f"{error!r:.400}"
    else:
        return "it is taken"
    if any(folder.iterdir()):
        return f"it left {[path.name for path in folder.iterdir()]} behind"
    return "it took long" if time.monotonic() - started > 20 else None


@pytest.mark.parametrize("wrong", FUNCTIONS, ids=lambda wrong: wrong.__name__)
def test_a_wrong_argument_is_one_line(wrong, tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function, found = getattr(api, wrong.__name__), {}

    def given(value: object) -> object:
        return tiny_run if isinstance(value, str) and value == "TINY" else value

    for places, keywords in wrong():
        values = [given(value) for value in places], {name: given(value) for name, value in keywords.items()}
        what = outcome(lambda values=values: function(*values[0], **values[1]), tmp_path)
        if what is not None:
            found[f"{wrong.__name__}{places, keywords}"[:200]] = what
    assert not found, "\n".join(f"{call}: {what}" for call, what in found.items())


def test_all_public_functions_are_here_and_check_their_arguments():
    public = {name for name in api.__all__ if inspect.isfunction(getattr(api, name))}
    assert {wrong.__name__ for wrong in FUNCTIONS} == public
    assert sum(len(list(wrong())) for wrong in FUNCTIONS) > 40
    for name in public:
        assert hasattr(getattr(api, name), "__wrapped__"), f"{name} is not @checked"
        assert set(inspect.signature(getattr(api, name)).parameters) & set(RULES)


QUOTAS = {
    "huge.csv": b"cell_type,cells\nT cell,1e15\n",
    "together.csv": b"cell_type,cells\nT cell,3000000000\nB cell,3000000000\n",
    "endless.csv": b"cell_type,cells\nT cell," + b"9" * 5000 + b"\n",
    "infinite.csv": b"cell_type,cells\nT cell,inf\n",
    "nan.csv": b"cell_type,cells\nT cell,nan\n",
    "negative.csv": b"cell_type,cells\nT cell,-5\n",
    "fractional.csv": b"cell_type,cells\nT cell,1.5\n",
    "twice.csv": b"cell_type,cells\nT cell,5\nT cell,5\n",
    "none.csv": b"cell_type,cells\nT cell,0\n",
    "empty.csv": b"",
    "header.csv": b"cell_type,cells\n",
    "columns.csv": b",".join(b"c%d" % i for i in range(100_000)) + b"\n",
    "same.csv": b"cell_type," + b"cells," * 100_000 + b"cells\n",
    "unknown.csv": b"cell_type,cells\n" + b"x" * 100_000 + b",5\n",
    "long.csv": b"cell_type,cells\n" + b"x" * 200_000 + b",5\n",
    "binary.csv": bytes(range(256)) * 10,
    "zeros.csv": bytes(1000),
    "latin.csv": "cell_type,cells\nT zélle,5\n".encode("latin-1"),
    "ragged.csv": b"cell_type,cells\nT cell,5,6\n",
    "quoted.csv": b'cell_type,cells\n"T cell,5\n',
}


@pytest.mark.parametrize("name", [*QUOTAS, "folder", "missing.csv"])
def test_a_wrong_table_of_quotas_is_one_line(name, labelled_run, tmp_path):
    path = tmp_path / name
    (tmp_path / "out").mkdir()
    if name in QUOTAS:
        path.write_bytes(QUOTAS[name])
    elif name == "folder":
        path.mkdir()
    assert outcome(lambda: api.sample(labelled_run, per_type=path), tmp_path / "out") is None


@pytest.mark.parametrize(
    "table",
    [
        {"T cell": 10**15},
        {"T cell": -1},
        {"T cell": 1.5},
        {"T cell": None},
        {"T cell": NAN},
        {"T cell": "many"},
        {"T cell": 10**400},
        {"T cell": [5]},
        {5: 5},
        {None: 5},
        {},
        {"T cell": 3 * 10**9, "B cell": 3 * 10**9},
        pd.DataFrame(),
        pd.DataFrame({"cells": [5]}),
        pd.DataFrame({"cell_type": [["T cell"]], "cells": [5]}),
        pd.DataFrame({"cell_type": ["T cell"], "cells": [[5]]}),
        pd.DataFrame({"cell_type": ["T cell"], "cells": [None]}),
        pd.DataFrame({0: ["T cell"], 1: [5]}),
        pd.DataFrame({"cell_type": ["T cell"], "cells": [1e15]}),
    ],
    ids=range(19),
)
def test_wrong_quotas_in_memory_are_one_line(table, labelled_run, tmp_path):
    assert outcome(lambda: api.sample(labelled_run, per_type=table), tmp_path) is None


NUMBERS = ("-1", "18446744073709551616", "nan", "1.5", "x", "", "9" * 5000)
COMMANDS = {
    "prepare": (
        ["pbmc3k", "--out", "x.h5ad"],
        {
            "--seed": NUMBERS,
            "--genes": ("0", *NUMBERS),
            "--min-cells": NUMBERS,
            "--target-sum": ("0", "inf", "nan", "x"),
            "--held-out": ("-1", "1", "nan", "x"),
            "--preset": ("", "dmo"),
            "--normalize": ("x",),
            "--gene-selection": ("x",),
            "--derive": ("x", "pc-scores=x", "pc-scores=-1", "pc-scores=" + "9" * 5000, "pc-scores=0", "pc-scores=999"),
            "--network": ("gan",),
            "--out": ("x.csv", ""),
        },
    ),
    "train": (
        ["pbmc3k", "--out", "run"],
        {
            "--seed": NUMBERS,
            "--steps": ("0", *NUMBERS),
            "--keep": ("0", *NUMBERS),
            "--batch-size": ("0", "-5", *NUMBERS),
            "--learning-rate": ("0", "nan", "inf", "x"),
            "--out": ("",),
            "--max-minutes": ("nan", "inf", "0", "-1", "x", "1e300"),
            "--accumulate": ("0", "7", *NUMBERS),
            "--evaluate-every": ("nan", "0", "-1"),
            "--patience": ("0",),
            "--column-dropout": ("nan", "2", "-1"),
            "--checkpoint-every": ("0", *NUMBERS),
            "--processes": ("0", "2", *NUMBERS),
            "--process-id": ("0", *NUMBERS),
            "--coordinator": ("x", "x:1"),
            "--prediction": ("x",),
            "--loss": ("x",),
            "--teacher": ("missing",),
            "--from": ("missing", ""),
        },
    ),
    "simulate": (
        ["RUN", "--cells", "5", "--out", "x.h5ad"],
        {
            "--seed": NUMBERS,
            "--cells": ("0", "1000000000000000", *NUMBERS),
            "--de-share": ("-1", "2", "nan", "x"),
            "--log2-fold-change": ("-1", "nan", "1,2,3", "2,1", ",", "x"),
            "--up-share": ("2", "nan"),
            "--groups": ("0", *NUMBERS),
            "--de-by": ("missing",),
            "--de-cell-type": ("missing",),
            "--batches": ("0", *NUMBERS),
            "--batch-strength": ("1", "-1", "nan"),
            "--batch-depth": ("1", "x"),
            "--depth-factor": ("0", "-1", "inf", "nan"),
            "--doublets": ("2", "nan", "x"),
            "--ambient": ("1", "nan", "x"),
            "--effects-seed": NUMBERS,
            "--proportion": ("x", "=1", "T cell=nan", "T cell=-1", "T cell=0", "T cell=1"),
            "--schema": ("loom", ""),
            "--out": ("x.csv", "", "x"),
        },
    ),
    "sample": (
        ["RUN", "--cells", "5", "--out", "x.h5ad"],
        {
            "--seed": NUMBERS,
            "--cells": ("0", "1000000000000000", *NUMBERS),
            "--steps": ("0", "999999999", *NUMBERS),
            "--batch-size": ("0", "-5", *NUMBERS),
            "--acceleration": ("nan", "0", "x"),
            "--eta": ("nan", "2", "x"),
            "--guidance": ("nan", "inf", "1e30", "-1", "x", "a=nan", "=", "2"),
            "--depth": ("nan", "5"),
            "--shard-cells": ("0", *NUMBERS),
            "--schedule": ("missing", ""),
            "--variance": ("x",),
            "--solver": ("x", ""),
            "--condition": ("x", "a=b", "=" + "x" * 5000),
            "--cell-type": ("x",),
            "--per-type": ("missing", ".", ""),
            "--match": ("missing", ""),
            "--processes": ("0", "2", *NUMBERS),
            "--dtype": ("x",),
            "--out": ("x.csv", ""),
        },
    ),
    "verify": (["missing"], {"--repair": ("missing", "")}),
    "assemble": (["missing"], {"--out": ("x.csv", "x.h5ad", "")}),
    "schedule": (
        ["RUN", "--steps", "4", "--out", "x.json"],
        {"--steps": ("0", "99", *NUMBERS), "--seed": NUMBERS, "--solver": ("x", ""), "--out": ("",)},
    ),
    "evaluate": (["missing", "missing", "--out", "x"], {"--repeats": ("0", *NUMBERS), "--seed": NUMBERS}),
    "benchmark": (
        ["RUN", "--out", "x"],
        {
            "--batch-size": ("0", "-5", *NUMBERS),
            "--seeds": ("0", *NUMBERS),
            "--repeats": ("0", *NUMBERS),
            "--case": ("x",),
            "--dtype": ("x",),
            "--preset": ("demo",),
        },
    ),
    "demo": (
        ["--out", "x"],
        {"--cells": ("0", "1000000000000000", *NUMBERS), "--steps": ("0", *NUMBERS), "--seed": NUMBERS},
    ),
    "import-torch": (
        ["missing.pt", "--out", "x"],
        {"--heads": ("0", *NUMBERS), "--first-timestep": ("2", *NUMBERS), "--genes": ("missing",), "--key": ("",)},
    ),
    "info": (["missing"], {}),
    "completion": (["csh"], {}),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_option_is_one_line_and_status_2(command, tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, options = COMMANDS[command]
    words = [str(tiny_run.path) if word == "RUN" else word for word in words]
    found = {}
    for option, values in options.items() or [("--no-such", ("x",))]:
        for value in values:
            result = CliRunner().invoke(main, [command, *words, option, value])
            lines = [line for line in result.stderr.splitlines() if line and not line.startswith(("Usage:", "Try "))]
            good = isinstance(result.exception, SystemExit) and result.exit_code == 2 and len(lines) == 1
            if not good or not lines[0].startswith(("scrdit: ", "Error: ")) or len(lines[0]) > 700:
                found[f"{option} {value:.80}"] = f"{result.exit_code} {result.exception!r:.300} {result.output[-300:]}"
            elif any(tmp_path.iterdir()):
                found[f"{option} {value:.80}"] = f"left {[path.name for path in tmp_path.iterdir()]} behind"
    assert not found, "\n".join(f"{call}: {what}" for call, what in found.items())


def test_all_commands_are_here():
    assert set(COMMANDS) == set(main.commands)
