import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse
from scipy.stats import norm

from scrdit_jax.config import RunConfig, TrainingConfig
from scrdit_jax.data.batches import Batch
from scrdit_jax.data.packed import pack_rows
from scrdit_jax.data.scaling import Scaling
from scrdit_jax.diffusion.predictions import ZeroInflated
from scrdit_jax.diffusion.schedule import linear_schedule
from scrdit_jax.errors import BadConfig
from scrdit_jax.networks import make_network
from scrdit_jax.networks.dit import DiT
from scrdit_jax.training.objectives import Start, start_at_marginals
from scrdit_jax.training.parallel import DEVICES, parallelise, require_even_shares
from scrdit_jax.training.state import initial_state, make_optimizer
from scrdit_jax.training.step import _conditions, _quantiles, make_losses, make_step

SCALING = Scaling(-10.0, -8.0, 4.0)
GENES = 24


@pytest.fixture(scope="module")
def network(tiny_config):
    return DiT(tiny_config.network, GENES, 3)


@pytest.fixture(scope="module")
def cells():
    random = np.random.default_rng(0)
    return np.where(random.random((8, GENES)) < 0.7, 0, random.gamma(2, size=(8, GENES))).astype(np.float32)


class Recorder(nn.Module):
    """A network of one parameter that predicts a constant, so that the loss has a closed form."""

    @nn.compact
    def __call__(self, cells, timesteps, labels=None, states=None):
        return jnp.broadcast_to(self.param("constant", nn.initializers.constant(0.5), (1, 1)), cells.shape)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_the_loss_is_eq_10_for_the_noise_and_levels_that_were_drawn(prediction, cells):
    """Redraws the step's noise by its documented keys and evaluates eq. 9 and 10 gene by gene."""
    config = RunConfig.from_dict({"diffusion": {"prediction": prediction}, "training": {"batch_size": 8}})
    state = initial_state(Recorder(), GENES, config.training)
    _, metrics = jax.jit(make_step(Recorder(), config, SCALING))(state, Batch(cells))

    level_key, noise_key = jax.random.split(jax.random.fold_in(jax.random.key(0), 0))
    alpha_bars = linear_schedule(config.diffusion).alpha_bars
    total = 0.0
    for i in range(8):
        u = float(jax.random.uniform(jax.random.fold_in(level_key, i)))
        abar = alpha_bars[1 + int(u * 1000)]
        noise = np.asarray(jax.random.normal(jax.random.fold_in(noise_key, i), (GENES,)), np.float64)
        for gene in range(GENES):
            clean = ((-10.0 if cells[i, gene] == 0 else cells[i, gene]) + 8.0) / 4.0
            v = np.sqrt(abar) * noise[gene] - np.sqrt(1 - abar) * clean
            total += ((noise[gene] if prediction == "epsilon" else v) - 0.5) ** 2
    assert float(metrics.loss) == pytest.approx(total / (8 * GENES), rel=1e-5)


class Teller(nn.Module):
    """A network that says the same of every gene: log-odds, mean and log-deviation."""

    @nn.compact
    def __call__(self, cells, timesteps, labels=None, states=None):
        said = self.param("said", lambda key: jnp.array([0.5, 2.0, 0.7]))
        return jnp.broadcast_to(said, (*cells.shape, 3))


def test_the_likelihood_is_by_bayes_rule_for_the_noise_and_levels_that_were_drawn(cells):
    """-log p(x_0 | x_t) = log p(x_t) - log p(x_t | x_0) - log p(x_0), gene by gene; p(x_0) is what the network says."""
    changes = {"diffusion": {"prediction": "zero-inflated"}, "training": {"batch_size": 8, "loss": "likelihood"}}
    config = RunConfig.from_dict(changes)
    state = initial_state(Teller(), GENES, config.training)
    _, metrics = jax.jit(make_step(Teller(), config, SCALING))(state, Batch(cells))

    level_key, noise_key = jax.random.split(jax.random.fold_in(jax.random.key(0), 0))
    alpha_bars = linear_schedule(config.diffusion).alpha_bars
    present, mean, spread = 1 / (1 + np.exp(-0.5)), (2.0 + 8.0) / 4.0, np.exp(0.7) / 4.0
    total = 0.0
    for i in range(8):
        abar = alpha_bars[1 + int(float(jax.random.uniform(jax.random.fold_in(level_key, i))) * 1000)]
        noise = np.asarray(jax.random.normal(jax.random.fold_in(noise_key, i), (GENES,)), np.float64)
        root, sigma = np.sqrt(abar), np.sqrt(1 - abar)
        for gene in range(GENES):
            zero = cells[i, gene] == 0
            clean = ((-10.0 if zero else cells[i, gene]) + 8.0) / 4.0
            noisy = root * clean + sigma * noise[gene]
            prior = np.log(1 - present) if zero else np.log(present) + norm.logpdf(clean, mean, spread)
            evidence = np.logaddexp(
                np.log(1 - present) + norm.logpdf(noisy, root * -0.5, sigma),
                np.log(present) + norm.logpdf(noisy, root * mean, np.sqrt(abar * spread**2 + sigma**2)),
            )
            total += evidence - norm.logpdf(noisy, root * clean, sigma) - prior
    assert float(metrics.loss) == pytest.approx(total / (8 * GENES), rel=1e-4)


def test_a_zero_inflated_network_begins_at_the_marginals(network, tiny_config):
    bias = np.random.default_rng(0).normal(size=(GENES, 3)).astype(np.float32)

    def at_marginals(params, teacher_params):
        return start_at_marginals(params, Start(ZeroInflated(-0.5, -8.0, 4.0), lambda: bias))

    state = initial_state(network, GENES, tiny_config.training, initial_params=at_marginals)
    predicted = network.apply(state.ema, jnp.ones((2, GENES)), jnp.array([1, 20]))
    np.testing.assert_array_equal(predicted, np.stack([bias, bias]))
    plain = DiT(tiny_config.network, GENES)
    begun = initial_state(plain, GENES, tiny_config.training, initial_params=at_marginals)
    assert "gene_bias" not in begun.params["params"]


def test_two_devices_take_the_step_that_one_takes(network, tiny_config, cells):
    results = []
    for devices in (jax.local_devices()[:1], jax.local_devices()[:2]):
        step = parallelise(make_step(network, tiny_config, SCALING, axis_name=DEVICES), devices)
        state = step.place(initial_state(network, GENES, tiny_config.training))
        for _ in range(3):
            state, metrics = step.run(state, step.share(Batch(cells)))
        results.append((step.fetch(state), float(np.ravel(metrics.loss)[0])))
    (one, loss), (two, loss_of_two) = results
    assert len(jax.local_devices()) == 2
    assert loss == pytest.approx(loss_of_two, rel=1e-5)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(two.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def one_step(network, config, cells):
    state = initial_state(network, GENES, config.training)
    return jax.jit(make_step(network, config, SCALING))(state, Batch(cells))


@pytest.fixture(scope="module")
def whole_step(network, tiny_config, cells):
    return one_step(network, tiny_config, cells)


@pytest.mark.parametrize("parts", [2, 8])
def test_a_batch_taken_in_parts_is_the_whole_batch(parts, network, tiny_config, cells, whole_step):
    whole, metrics = whole_step
    taken, in_parts = one_step(network, tiny_config.with_settings({"accumulate": parts}), cells)
    np.testing.assert_allclose(in_parts, metrics, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(whole.optimizer), jax.tree.leaves(taken.optimizer), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_bfloat16_computes_in_it_and_keeps_float32(network, tiny_config, cells, whole_step):
    config = tiny_config.with_settings({"dtype": "bfloat16"})
    state, metrics = one_step(network, config, cells)
    _, exact = whole_step
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.ema, state.optimizer))} <= {
        jnp.dtype("float32"), jnp.dtype("int32")
    }  # fmt: skip
    assert metrics.loss.dtype == jnp.float32
    assert float(metrics.loss) == pytest.approx(float(exact.loss), rel=0.02)
    program = str(jax.make_jaxpr(make_step(network, config, SCALING))(state, Batch(cells)))
    assert "bf16" in program
    assert "bf16" not in str(jax.make_jaxpr(make_step(network, tiny_config, SCALING))(state, Batch(cells)))


def test_cells_that_lie_on_the_devices_are_taken_by_their_numbers(network, tiny_config, cells):
    rows = np.array([5, 2, 7, 0, 1, 6, 3, 4], np.int32)
    results = []
    for resident in (None, Batch(cells)):
        of_devices = make_step(network, tiny_config, SCALING, axis_name=DEVICES)
        step = parallelise(of_devices, jax.local_devices(), resident=resident)
        state = step.place(initial_state(network, GENES, tiny_config.training))
        state, _ = step.run(state, step.share(Batch(cells[rows]) if resident is None else rows))
        results.append(step.fetch(state))
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_packed_cells_train_as_dense_ones_do(network, tiny_config, cells):
    """To the bit, resident and not, over several devices and in parts."""
    sparse_cells = sparse.csr_matrix(np.where(np.random.default_rng(0).random(cells.shape) < 0.6, 0, cells))
    packed, dense = Batch(pack_rows(sparse_cells, GENES)), Batch(sparse_cells.toarray())
    config, results = tiny_config.with_settings({"accumulate": 2}), []
    for resident, batch in ((None, dense), (None, packed), (packed, np.arange(8, dtype=np.int32))):
        step = make_step(network, config, SCALING, axis_name=DEVICES)
        step = parallelise(step, jax.local_devices(), resident=resident)
        state = step.place(initial_state(network, GENES, config.training))
        for _ in range(2):
            state, _ = step.run(state, step.share(batch))
        results.append(step.fetch(state))
    for other in results[1:]:
        for a, b in zip(*map(jax.tree.leaves, (results[0], other)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_batch_that_cannot_be_shared_out_is_refused(tiny_config):
    config = tiny_config.with_settings({"batch_size": 9})
    with pytest.raises(BadConfig, match="a batch of 9 cells cannot be shared out over 2 devices; use --batch-size 10"):
        require_even_shares(config.training, 2)


@pytest.mark.parametrize("loss", ["squared-error", "likelihood"])
def test_the_step_learns(network, tiny_config, cells, loss):
    config = tiny_config.with_settings({"steps": 300, "learning_rate": 0.01, "loss": loss})
    step = jax.jit(make_step(network, config, SCALING))
    state = initial_state(network, GENES, config.training)
    losses = []
    for _ in range(300):
        state, metrics = step(state, Batch(cells))
        losses.append(float(metrics.loss))
    begun, ended = np.mean(losses[:10]), np.mean(losses[-30:])
    # Minus a log-likelihood, in nats, has no lower end.
    assert np.isfinite(losses).all()
    assert ended < (0.6 * begun if loss == "squared-error" else begun - 0.8)


@pytest.mark.parametrize(
    ("done", "share_kept"), [(0, 0.1), (1, 2 / 11), (8, 0.5), (70, 71 / 80), (80, 0.9), (1000, 0.9)]
)
def test_the_average_keeps_a_share_that_grows_up_to_its_decay(done, share_kept, cells):
    """min(decay, (1 + t) / (10 + t)) of the old average, the rest of the new params; both far apart here."""
    config = RunConfig.from_dict({"training": {"batch_size": 8, "learning_rate": 0.1, "ema_decay": 0.9}})
    state = initial_state(Recorder(), GENES, config.training)
    old = 2.0
    state = state._replace(step=jnp.asarray(done, jnp.int32), ema=jax.tree.map(lambda leaf: 0 * leaf + old, state.ema))
    following, _ = jax.jit(make_step(Recorder(), config, SCALING))(state, Batch(cells))
    (new,), (average,) = jax.tree.leaves(following.params), jax.tree.leaves(following.ema)
    assert new.item() < 0.6
    assert average.item() == pytest.approx(share_kept * old + (1 - share_kept) * new.item(), rel=1e-5)


def test_stratified_levels_put_one_cell_in_each_stratum():
    quantiles = _quantiles(jax.random.key(5), jnp.arange(16), 16, stratified=True)
    assert np.array_equal(np.floor(np.asarray(quantiles) * 16), np.arange(16))


def test_timesteps_are_drawn_with_the_probabilities_of_the_schedule():
    quantiles = np.asarray(_quantiles(jax.random.key(5), jnp.arange(4000), 4000, stratified=False))
    assert quantiles.min() >= 0
    assert quantiles.max() < 1
    assert abs(quantiles.mean() - 0.5) < 0.02


def test_warm_up_then_cosine_and_clipping():
    config = TrainingConfig(steps=100, learning_rate=0.1, learning_rate_schedule="cosine", warmup_steps=10,
                            gradient_clip=1.0, weight_decay=0.0)  # fmt: skip
    optimizer = make_optimizer(config)
    params = {"w": jnp.zeros(1)}
    state, sizes = optimizer.init(params), []
    for _ in range(100):
        updates, state = optimizer.update({"w": jnp.full(1, 1e6)}, state, params)
        sizes.append(abs(float(updates["w"][0])))
    # Adam's step has the size of the rate while the gradient does not change.
    assert sizes[0] < 0.011
    assert sizes[10] == pytest.approx(0.1, rel=0.02)
    assert sizes[-1] < 0.001


def updates_of(config, params, gradients):
    """What AdamW adds to one param, which stays where it is, at each of the gradients."""
    optimizer, params = make_optimizer(config), {"w": jnp.full(1, params)}
    state, found = optimizer.init(params), []
    for gradient in gradients:
        updates, state = optimizer.update({"w": jnp.full(1, gradient)}, state, params)
        found.append(float(updates["w"][0]))
    return found


def test_a_clipped_gradient_weighs_no_more_than_the_next():
    """Adam by hand: of 1 and then -1, m = (0.9 0.1 - 0.1) / (1 - 0.9^2) and v = 1; unclipped, the first would rule."""
    constant = {"learning_rate": 0.1, "weight_decay": 0.0}
    clipped = updates_of(TrainingConfig(**constant, gradient_clip=1.0), 2.0, (1e6, -1.0))
    assert clipped == pytest.approx([-0.1, 0.1 * 0.01 / 0.19], rel=1e-3)
    assert updates_of(TrainingConfig(**constant), 2.0, (1e6, -1.0))[1] < -0.05


def test_weights_decay_by_the_rate_and_their_own_size():
    """Decoupled (Loshchilov & Hutter 2019): without a gradient a weight shrinks by rate x decay x weight."""
    decaying = TrainingConfig(learning_rate=0.1, weight_decay=0.3)
    assert updates_of(decaying, 2.0, (0.0, 0.0)) == pytest.approx([-0.06, -0.06], rel=1e-5)
    assert updates_of(TrainingConfig(learning_rate=0.1, weight_decay=0.0), 2.0, (0.0,)) == [0.0]


class Reporter(nn.Module):
    """Predicts ten times its timestep, and twenty thousand more where a cell's labels are dropped."""

    @nn.compact
    def __call__(self, cells, timesteps, labels=None, states=None):
        said = 10 * (timesteps + jnp.where(labels[:, 0] < 0, 2000, 0))
        return jnp.broadcast_to(said[:, None], cells.shape)


@pytest.mark.parametrize("stratified", [False, True])
def test_which_labels_are_dropped_says_nothing_of_the_noise_level(stratified):
    training = {"label_dropout": 0.3, "stratified_levels": stratified}
    config = RunConfig.from_dict({"training": training})
    losses = jax.jit(make_losses(Reporter(), config, SCALING), static_argnums=4)
    count = 2000
    batch = Batch(np.zeros((count, 2), np.float32), np.zeros((count, 1), np.int32))
    # The root of a loss is what was predicted, but for the noise, which is a tenth of a timestep.
    said = np.sqrt(np.asarray(losses({}, batch, jax.random.key(3), jnp.arange(count), count), np.float64)) / 10
    dropped = said > 1500
    timesteps = np.where(dropped, said - 2000, said)
    assert abs(dropped.mean() - 0.3) < 4 * np.sqrt(0.21 / count)
    difference = timesteps[dropped].mean() - timesteps[~dropped].mean()
    assert abs(difference) < 4 * timesteps.std() * np.sqrt(1 / dropped.sum() + 1 / (~dropped).sum())


def test_states_are_given_with_noise_and_dropped_with_the_labels_of_the_cell():
    count, training = 4000, TrainingConfig(label_dropout=0.3, state_noise=0.5)
    own = np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)
    batch = Batch(np.zeros((count, 2), np.float32), np.ones((count, 1), np.int32), own)
    labels, states = map(np.asarray, _conditions(batch, jax.random.key(3), jnp.arange(count), training))
    dropped = labels[:, 0] == -1
    assert abs(dropped.mean() - 0.3) < 4 * np.sqrt(0.21 / count)
    np.testing.assert_array_equal(np.isnan(states), np.stack([dropped, dropped], axis=1))
    noise = (states - own)[~dropped]
    # 2,800 normal numbers: standard errors of 0.009, 0.007 and 0.019.
    assert np.abs(noise.mean(axis=0)).max() < 0.04
    assert np.abs(noise.std(axis=0) - 0.5).max() < 0.03
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.08
    # By the cell's place in the batch alone, whoever computes it; and nothing is drawn where there is nothing to draw.
    part = Batch(*(leaf[100:300] for leaf in batch[:3]))
    again = np.asarray(_conditions(part, jax.random.key(3), jnp.arange(100, 300), training)[1])
    np.testing.assert_array_equal(again, states[100:300])
    plain = TrainingConfig(label_dropout=0.0, state_noise=0.0)
    np.testing.assert_array_equal(_conditions(batch, jax.random.key(3), jnp.arange(count), plain)[1], own)


def test_each_column_and_the_states_are_dropped_by_themselves():
    count, training = 8000, TrainingConfig(label_dropout=0.1, column_dropout=0.25, state_noise=0.0)
    own = np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)
    batch = Batch(np.zeros((count, 2), np.float32), np.ones((count, 3), np.int32), own)
    key, places = jax.random.key(3), jnp.arange(count)
    labels, states = map(np.asarray, _conditions(batch, key, places, training))
    np.testing.assert_array_equal(np.isnan(states)[:, 0], np.isnan(states)[:, 1])
    dropped = np.column_stack([labels == -1, np.isnan(states)[:, 0]])
    # All together in a tenth of the cells, which are those that were dropped without dropout of columns.
    alone = TrainingConfig(label_dropout=0.1, state_noise=0.0)
    together = np.asarray(_conditions(batch, key, places, alone)[0])[:, 0] == -1
    assert dropped[together].all()
    apart = dropped[~together]
    deviation = np.sqrt(0.25 * 0.75 / len(apart))
    assert np.abs(apart.mean(axis=0) - 0.25).max() < 4 * deviation
    # Independent of each other: every subset of the four is as frequent as the product says.
    subsets = np.bincount(apart @ [1, 2, 4, 8], minlength=16) / len(apart)
    expected = np.array([0.25 ** bin(i).count("1") * 0.75 ** (4 - bin(i).count("1")) for i in range(16)])
    assert np.abs(subsets - expected).max() < 4 * np.sqrt(expected.max() / len(apart))
    # By the cell's place in the batch alone, whoever computes it.
    part = Batch(*(leaf[100:300] for leaf in batch[:3]))
    again = map(np.asarray, _conditions(part, key, jnp.arange(100, 300), training))
    for found, whole in zip(again, (labels, states), strict=True):
        np.testing.assert_array_equal(found, whole[100:300])


def test_dropping_the_only_column_is_dropping_all():
    batch = Batch(np.zeros((500, 2), np.float32), np.ones((500, 1), np.int32))
    plain, by_column = (
        _conditions(batch, jax.random.key(3), jnp.arange(500), TrainingConfig(column_dropout=rate))[0]
        for rate in (0.0, 0.5)
    )
    np.testing.assert_array_equal(by_column, plain)


@pytest.mark.parametrize("platforms", [["cpu", "cuda", "tpu"]])
def test_the_training_step_lowers_for_every_platform(network, tiny_config, platforms):
    state = jax.eval_shape(lambda: initial_state(network, GENES, tiny_config.training))
    batch = Batch(jax.ShapeDtypeStruct((8, GENES), jnp.float32))
    exported = jax.export.export(jax.jit(make_step(network, tiny_config, SCALING)), platforms=platforms)(state, batch)
    assert set(exported.platforms) == set(platforms)
    assert len(exported.mlir_module_serialized) > 10_000


def test_only_the_rows_of_labels_that_cells_bear_or_have_dropped_are_learnt(cells):
    """All cells bear label 0 of three: its row has a gradient where they keep it, the last row where it is dropped."""
    small = {"genes_per_token": 12, "width": 8, "depth": 1, "heads": 1}
    config = RunConfig.from_dict({"network": small, "diffusion": {"prediction": "zero-inflated"}})
    network = make_network(config.network, GENES, 3, labels=(3,))
    params = initial_state(network, GENES, config.training).params
    # Away from zero, or nothing would reach the embeddings at the first step.
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    batch = Batch(cells, jnp.zeros((8, 1), jnp.int32))

    def learnt(dropout: float) -> list[int]:
        losses = make_losses(network, config.with_settings({"label_dropout": dropout}), SCALING)
        gradient = jax.jit(jax.grad(lambda p: losses(p, batch, jax.random.key(0), jnp.arange(8), 8).mean()))(params)
        return np.flatnonzero(np.abs(gradient["params"]["label_embeddings"]).max(axis=1)).tolist()

    assert learnt(0.0) == [0]
    assert learnt(1.0) == [3]
    assert learnt(0.5) == [0, 3]
