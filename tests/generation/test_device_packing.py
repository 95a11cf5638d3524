"""Batches that are packed where they are made: the same cells on the host, however much room there was for them."""

import jax
import numpy as np
import pytest
from scipy import sparse

from scrdit_jax.checkpoint import load_model
from scrdit_jax.conditioning.request import Quotas
from scrdit_jax.config import SamplingConfig
from scrdit_jax.data.packed import Packed, unpack
from scrdit_jax.generation import packing
from scrdit_jax.generation.composition import collect, dispatch_ahead, make_sampler
from scrdit_jax.generation.engine import Engine
from scrdit_jax.generation.packing import SIZES, Room, cut, pack
from scrdit_jax.generation.plan import Shard
from scrdit_jax.generation.program import place
from scrdit_jax.generation.request import SampleRequest


def on_host(packed):
    return Packed(*map(np.asarray, packed))


def random_cells(zeros, cells, genes):
    rng = np.random.default_rng(2)
    dense = rng.random((cells, genes)).astype(np.float32) * (rng.random((cells, genes)) >= zeros)
    dense[cells // 2] = 0
    return dense


@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.95, 1.0])
def test_what_a_device_packs_is_the_same_cells(zeros):
    dense = random_cells(zeros, 12, 30)
    placement = place(jax.local_devices())
    packed = pack(jax.device_put(dense, placement.shared_out))
    room = max(1, np.count_nonzero(dense, axis=1).max())
    found = unpack(on_host(cut(packed, room)), 30)
    np.testing.assert_array_equal(found.toarray(), dense)
    assert found.has_canonical_format
    assert found.nnz == np.count_nonzero(dense)
    assert on_host(cut(packed, room)).is_whole
    assert on_host(cut(packed, room - 1)).is_whole == (room == 1)


def test_negative_and_odd_values_are_kept_and_zeros_of_either_sign_are_not():
    dense = np.array([[-1.5, np.nan, 0, -0.0, np.inf], [0, 0, 0, 0, 2]], np.float32)
    found = unpack(on_host(pack(dense)), 5)
    np.testing.assert_array_equal(found.data, np.array([-1.5, np.nan, np.inf, 2], np.float32))
    np.testing.assert_array_equal(found.indices, [0, 1, 4, 4])


@pytest.mark.parametrize(("genes", "dtype"), [(65_536, np.uint16), (65_537, np.int32)])
def test_the_last_gene_fits_into_its_index(genes, dtype):
    dense = np.zeros((2, genes), np.float32)
    dense[0, [0, -1]], dense[1, -2:] = (1, 2), (3, 4)
    packed = on_host(cut(pack(dense), 2))
    assert packed.genes.dtype == dtype
    assert (unpack(packed, genes) != sparse.csr_matrix(dense)).nnz == 0


def test_a_device_puts_genes_in_another_order_as_it_packs():
    dense = random_cells(0.5, 12, 30)
    order = np.random.default_rng(3).permutation(30).astype(np.int32)
    found = unpack(on_host(pack(dense, order)), 30)
    assert found.has_canonical_format
    np.testing.assert_array_equal(found.toarray()[:, order], dense)


def test_each_device_packs_its_own_cells():
    placement = place(jax.local_devices())
    assert len(placement.devices) > 1
    shape = jax.ShapeDtypeStruct((12, 30), np.float32, sharding=placement.shared_out)
    program = pack.lower(shape).compile()
    assert not any(word in program.as_text() for word in ("all-gather", "all-to-all", "collective-permute"))
    assert all(sharding == placement.shared_out for sharding in program.output_shardings)


def test_room_is_learnt_and_comes_in_few_sizes():
    room = Room()
    assert room.of(2000) == 875  # two fifths, rounded up to sixteenths
    room.learn(np.array([3, 200, 150]))
    assert room.of(2000) == 250
    room.learn(np.array([90]))
    assert room.of(2000) == 250
    room.learn(np.array([1990]))
    assert room.of(2000) == 2000
    sizes = set()
    for most in range(0, 2001):
        learnt = Room()
        learnt.learn(np.array([most]))
        sizes.add(learnt.of(2000))
        assert min(1.12 * most, 2000) <= learnt.of(2000) <= 2000
    assert len(sizes) == SIZES


@pytest.mark.parametrize("cells", [21, 29])
def test_a_device_that_packs_makes_the_same_cells_also_where_they_do_not_fit(tiny_run, monkeypatch, cells):
    model = load_model(tiny_run)
    sampler = make_sampler(model, SampleRequest.of(model, Quotas.unlabelled(cells), SamplingConfig(batch_size=8)))

    def made():
        parts, kinds = [], []
        for done in dispatch_ahead(sampler.jobs([Shard(0, 0, cells)])):
            collected = collect(done)
            kinds.append(type(collected.cells))
            parts.append(sampler.block(done.job, collected).cells)
        return sparse.vstack(parts).toarray(), kinds

    plain, kinds = made()
    assert set(kinds) == {np.ndarray}
    assert len(plain) == cells
    monkeypatch.setattr(Engine, "packs", True)
    # The first two batches are dispatched before any has come.
    for share, kind in ((1.0, Packed), (0.05, np.ndarray)):
        monkeypatch.setattr(packing, "FIRST_SHARE", share)
        found, kinds = made()
        np.testing.assert_array_equal(found, plain)
        assert kinds == [kind, kind, *[Packed] * (len(kinds) - 2)]
