"""Plans: every cell in one shard, every batch the same batch whatever the shards, shares that make up the whole."""

import itertools
import json

import pytest

from scrdit_jax.errors import BadConfig
from scrdit_jax.generation.plan import Plan


@pytest.mark.parametrize(("cells", "batch_size"), [(1, 1), (65_536, 64), (65_537, 64), (1_000_000, 100), (9, 200_000)])
def test_every_cell_is_in_one_shard_and_every_batch_starts_at_a_multiple(cells, batch_size):
    plan = Plan.make(cells, batch_size)
    shards = plan.shards()
    assert [shard.index for shard in shards] == list(range(len(plan)))
    assert shards[0].first == 0
    assert shards[-1].last == cells
    assert all(one.last == two.first for one, two in itertools.pairwise(shards))
    batches = [batch for shard in shards for batch in shard.batches(batch_size)]
    assert all(first % batch_size == 0 for first, _ in batches)
    assert sum(count for _, count in batches) == cells
    assert all(count == batch_size for _, count in batches[:-1])
    assert max(shard.cells for shard in shards) <= max(65_536, batch_size)


def test_fewer_cells_are_the_first_of_more():
    many, few = Plan.make(300, 8, near=64), Plan.make(100, 8, near=64)
    assert few.shards()[0] == many.shards()[0]
    assert few.shards()[1] == (1, 64, 100)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
def test_shares_make_up_the_whole_and_differ_by_one_shard_at_most(count):
    plan = Plan.make(1000, 10, near=50)
    shares = [plan.share(process, count) for process in range(count)]
    assert sorted(shard for share in shares for shard in share) == list(plan.shards())
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    with pytest.raises(BadConfig, match=rf"there is no process {count} among {count}; they are numbered 0 to"):
        plan.share(count, count)


def test_a_plan_survives_json():
    for plan in (Plan.make(100, 8), Plan.make(3, 1)):
        assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_what_is_no_plan_is_refused():
    with pytest.raises(BadConfig, match="cells is 0; it must be a whole number, 1 or more"):
        Plan.make(0, 8)
    with pytest.raises(BadConfig, match="a shard of 10 cells is no multiple of the batch of 4"):
        Plan(cells=10, batch_size=4, shard_cells=10)
