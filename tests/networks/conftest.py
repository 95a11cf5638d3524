"""What the tests of every network need."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture(scope="session")
def with_random_weights():
    """Params of the same shapes with every weight random: layers that begin at zero would hide mistakes."""

    def randomised(params):
        leaves, tree = jax.tree.flatten(params)
        random = np.random.default_rng(3)
        return jax.tree.unflatten(tree, [jnp.asarray(0.3 * random.normal(size=x.shape), jnp.float32) for x in leaves])

    return randomised
