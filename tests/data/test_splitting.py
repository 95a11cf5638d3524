import hashlib

import numpy as np
import pytest

from scrdit_jax.data.splitting import held_out_mask

NAMES = [f"cell{i}" for i in range(5000)]


def test_depends_on_name_and_seed_alone():
    mask = held_out_mask(NAMES, 0.3, seed=4)
    order = np.random.default_rng(0).permutation(5000)[:1234]
    np.testing.assert_array_equal(held_out_mask([NAMES[i] for i in order], 0.3, seed=4), mask[order])
    assert 0.3 < np.mean(held_out_mask(NAMES, 0.3, seed=5) != mask) < 0.55


def test_is_the_hash_it_says_it_is():
    number = int.from_bytes(hashlib.blake2b(b"7\ncell3", digest_size=8).digest(), "little") / 2**64
    assert not held_out_mask(["cell3"], number, seed=7)[0]
    assert held_out_mask(["cell3"], np.nextafter(number, 1), seed=7)[0]


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.9])
def test_share(fraction):
    mask = held_out_mask(NAMES, fraction, seed=0)
    assert mask.dtype == bool
    assert abs(mask.mean() - fraction) < 4 * np.sqrt(0.25 / 5000)
    assert fraction > 0 or not mask.any()


def test_larger_shares_contain_smaller_ones():
    assert np.all(held_out_mask(NAMES, 0.5, seed=0) >= held_out_mask(NAMES, 0.1, seed=0))
