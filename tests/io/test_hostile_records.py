"""Records that files carry, each of their values replaced by others: read as none of this program's, or refused."""

import contextlib
import copy
import hashlib
import json
import pickle

import anndata
import numpy as np
import pytest
from hostile import small_cells

from scrdit_jax import api
from scrdit_jax.config import RunConfig
from scrdit_jax.data.preparing import METADATA_KEY, prepared_from, write_prepared
from scrdit_jax.diffusion.timesteps import read_timesteps
from scrdit_jax.errors import BadInput, BadTimesteps, OutputExists, RunMismatch, ScrditError
from scrdit_jax.evaluation.cells import compared_cells
from scrdit_jax.families import FAMILY, FamilyFolder
from scrdit_jax.generation.manifest import Manifest, ShardRecord
from scrdit_jax.generation.outputs import is_finished
from scrdit_jax.generation.plan import Plan
from scrdit_jax.generation.store import MANIFEST, Store, layout_of
from scrdit_jax.info import _describe_cells, describe
from scrdit_jax.provenance import KEY, ModelRecord, Provenance

NESTED = "[" * 100_000
VALUES = (None, True, -1, 1.5, 10**30, float("nan"), "x", "", [], {}, [[]], {"a": 1}, [None, 1], "\x1b[2J" * 50)


@pytest.fixture(scope="module")
def config():
    return RunConfig.from_dict(
        {
            "data": {"genes": 4, "min_cells": 1, "held_out": 0.3, "condition_on": ["cell_type"]},
            "network": {"genes_per_token": 4, "width": 16, "depth": 1, "heads": 2},
            "diffusion": {"timesteps": 20, "beta_start": 0.01, "beta_end": 0.6},
            "training": {"steps": 12, "batch_size": 8},
        }
    )


@pytest.fixture(scope="module")
def prepared(config):
    return api.prepare(small_cells(), preset=config)


@pytest.fixture(scope="module")
def record(config, prepared):
    metadata = prepared.metadata
    return Provenance(
        cells=10,
        quotas=({"labels": ["A"], "cells": 4}, {"labels": [None], "cells": 6}),
        variables=metadata.variables,
        sampling={"solver": "ddim", "seed": 0, "output": "log"},
        timesteps=(5, 1),
        network_evaluations=2,
        models=(ModelRecord("0" * 64, 12, config, metadata),),
        version="1",
    )


def replaced(values):
    """Copies of nested plain values, in each of which one is another, is gone or is there too much."""
    for path in paths_in(values):
        for value in VALUES:
            changed = copy.deepcopy(values)
            holder = changed
            for step in path[:-1]:
                holder = holder[step]
            holder[path[-1]] = value
            yield path, changed
        if isinstance(path[-1], str):
            changed = copy.deepcopy(values)
            holder = changed
            for step in path[:-1]:
                holder = holder[step]
            del holder[path[-1]]
            yield path, changed


def paths_in(values, above=()):
    """Of each value; of a long list, of its first entries. What is in settings is the settings' own matter."""
    pairs = values.items() if isinstance(values, dict) else list(enumerate(values))[:2]
    for key, value in pairs:
        yield (*above, key)
        if isinstance(value, dict | list) and key not in ("config", "settings"):
            yield from paths_in(value, (*above, key))


def test_a_record_with_a_wrong_value_is_foreign_or_can_be_shown(record, tmp_path):
    plain, tried, foreign = json.loads(json.dumps(record.to_dict())), 0, 0
    assert Provenance.from_uns({KEY: {"provenance": json.dumps(plain)}}) == record
    for path, changed in replaced(plain):
        found = Provenance.from_uns({KEY: {"provenance": json.dumps(changed)}})
        tried, foreign = tried + 1, foreign + (found is None)
        if found is None:
            continue
        try:
            assert all(isinstance(line, str) for line in _describe_cells(found, found.cells)), path
            layout_of(found)
            found.requested("cell_type")
            found.to_uns()
            found.require_same(record, tmp_path, "choose another")
        except OutputExists:
            pass
        except Exception as error:
            raise AssertionError(f"{path} as {changed}") from error
    assert tried > 500
    assert foreign > tried / 2


@pytest.mark.parametrize(
    "uns",
    [
        "text", "", 7, 1.5, np.arange(3), np.array(["a", "b"]), np.zeros(0), {}, {"provenance": 3}, {"provenance": "{"},
        {"provenance": NESTED}, {"provenance": '{"format": NaN}'}, {"provenance": '{"format": 2, "format": 2}'},
        {"provenance": "[]"}, {"provenance": "null"}, {"provenance": np.frombuffer(pickle.dumps([1]), np.uint8)},
        {"provenance": np.array(["{}"] * 3)}, {"facts": "{}", "config": "[]"}, {"provenance": {"format": "2"}},
        {"provenance": "x" * 300_000},
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_a_foreign_record_in_a_file_is_said_to_be_none(uns, suffix, record, tmp_path):
    cells, path = small_cells(), tmp_path / f"cells{suffix}"
    cells.uns[KEY] = uns
    (cells.write_h5ad if suffix == ".h5ad" else cells.write_zarr)(path)
    assert "not made by scrdit" in describe(path)[0]
    with pytest.raises(OutputExists, match="is there already and holds no synthetic cells"):
        is_finished(path, record)
    claims = isinstance(uns, dict) and {"provenance", "facts"} & set(uns)
    refusal = pytest.raises(BadInput, match="record of what made them cannot be read")
    with refusal if claims else contextlib.nullcontext():
        compared_cells(small_cells(), path)


def store_of(record, folder, changed=None):
    """A folder of shards without any; `changed` instead of its manifest, with a digest that is right."""
    if changed is None:
        plan = Plan(cells=10, batch_size=5, shard_cells=5)
        Manifest(record, plan, {"devices": 1, "kind": "cpu"}).write_once(folder / MANIFEST)
    else:
        changed.pop("digest", None)
        digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()
        (folder / MANIFEST).write_text(json.dumps(changed | {"digest": digest}))


def test_a_manifest_with_a_wrong_value_is_refused_or_can_be_shown(record, tmp_path):
    store_of(record, tmp_path)
    plain = json.loads((tmp_path / MANIFEST).read_text())
    shallow = {name: value for name, value in plain.items() if name != "provenance"}
    tried = 0
    for path, changed in replaced(shallow):
        changed["provenance"] = plain["provenance"]
        if path == ("digest",):
            continue
        store_of(record, tmp_path, changed)
        tried += 1
        try:
            describe(tmp_path)
        except ScrditError:
            pass
        except Exception as error:
            raise AssertionError(path) from error
    assert tried > 80


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '"text"', "7", NESTED, '{"digest": 1}', "{", "\ud83d", '{"a":1,"a":1}']
)
def test_files_of_records_that_are_none(text, record, tmp_path):
    content = text.encode("utf-8", "surrogatepass")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / MANIFEST).write_bytes(content)
    for action in (
        lambda: Store(tmp_path / "store"),
        lambda: api.verify(tmp_path / "store"),
        lambda: api.assemble(tmp_path / "store", out=tmp_path / "cells.h5ad"),
        lambda: describe(tmp_path / "store"),
    ):
        with pytest.raises(OutputExists, match=r"manifest\.json cannot be read"):
            action()
    (tmp_path / FAMILY).write_bytes(content)
    with pytest.raises(RunMismatch, match=r"family\.json is unreadable"):
        FamilyFolder.read(tmp_path)
    (tmp_path / "shard.json").write_bytes(content)
    assert ShardRecord.read(tmp_path / "shard.json") is None
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ScrditError):
        api.describe(tmp_path / "config.json")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_bytes(content)
    with pytest.raises(ScrditError):
        api.describe(tmp_path / "run")
    if text not in ("", "[]", "7"):
        (tmp_path / "timesteps").write_bytes(content)
        with pytest.raises(BadTimesteps):
            read_timesteps(tmp_path / "timesteps")


def test_a_record_of_a_shard_with_a_wrong_value_is_none(tmp_path):
    good = ShardRecord(0, 0, 5, 9, 100, "a", "b")
    good.write(tmp_path / "shard.json")
    assert ShardRecord.read(tmp_path / "shard.json") == good
    plain = json.loads((tmp_path / "shard.json").read_text())
    for path, changed in replaced(plain):
        (tmp_path / "shard.json").write_text(json.dumps(changed))
        found = ShardRecord.read(tmp_path / "shard.json")
        assert found is None or type(getattr(found, path[0])) is type(plain[path[0]])


@pytest.mark.parametrize("member", ["../elsewhere", "/etc", "a/b", "..", 3, None, ""])
def test_a_family_has_its_members_inside(member, tmp_path):
    (tmp_path / FAMILY).write_text(json.dumps({"format": 2, "column": "c", "members": {"A": member}, "left_out": {}}))
    with pytest.raises(RunMismatch, match="unreadable"):
        FamilyFolder.read(tmp_path)


def test_prepared_cells_with_a_wrong_value_are_refused_or_read(prepared, tmp_path):
    write_prepared(prepared, tmp_path / "prepared.h5ad")
    cells = anndata.read_h5ad(tmp_path / "prepared.h5ad")
    plain = json.loads(cells.uns[METADATA_KEY])
    for path, changed in replaced(plain):
        cells.uns[METADATA_KEY] = json.dumps(changed)
        try:
            prepared_from(cells)
        except ScrditError:
            pass
        except Exception as error:
            raise AssertionError(path) from error
    for text in ("", "[]", "null", NESTED, 7, np.arange(3), {"a": 1}):
        cells.uns[METADATA_KEY] = text
        with pytest.raises(BadInput, match="cannot be understood"):
            prepared_from(cells)
