"""Training with differential privacy: sums that no one unit moves far, noise that nobody can undo, epsilon as it is."""

import json
import math
import stat
from dataclasses import replace

import anndata
import dp_accounting
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse
from scipy.stats import norm

import scrdit_jax as scrdit
from scrdit_jax.checkpoint import Checkpoints, Run, load_model
from scrdit_jax.config import NO_NOISE, PrivacyConfig, RunConfig
from scrdit_jax.data.batches import Batch
from scrdit_jax.data.scaling import Scaling
from scrdit_jax.errors import BadConfig, MissingExtra, RunMismatch
from scrdit_jax.info import describe
from scrdit_jax.networks.dit import DiT
from scrdit_jax.privacy import PrivacyRecord, key_path
from scrdit_jax.provenance import Provenance
from scrdit_jax.training import loop
from scrdit_jax.training.fine_tuning import Base
from scrdit_jax.training.private import session, units
from scrdit_jax.training.private.accounting import Mechanism, calibrated
from scrdit_jax.training.private.key import PrivacyKey, StepKeys
from scrdit_jax.training.private.marginals import EXPRESSED, private_marginals
from scrdit_jax.training.private.step import Drawn, make_clipped_sum, make_private_step
from scrdit_jax.training.private.units import Units
from scrdit_jax.training.state import initial_state
from scrdit_jax.training.step import make_losses

GENES, CLIP = 24, 0.05
SCALING = Scaling(-10.0, -8.0, 4.0)
SECRET = bytes(range(32))
KEY = np.array([3, 4], np.uint64)
NEW = PrivacyKey.new


@pytest.fixture(scope="module")
def config(tiny_config):
    small = {"width": 8, "depth": 1, "heads": 1}
    return tiny_config.replace({"network": small, "privacy": {"dp_epsilon": 4.0, "dp_clip": 1.0}})


@pytest.fixture(scope="module")
def network(config):
    return DiT(config.network, GENES, 3)


@pytest.fixture(scope="module")
def params(network, config):
    """Fresh ones with noise: layers that begin at zero would have no gradient."""
    state = initial_state(network, GENES, config.training)
    leaves, structure = jax.tree.flatten(state.params)
    random = np.random.default_rng(5)
    return jax.tree.unflatten(structure, [leaf + 0.1 * random.normal(size=leaf.shape) for leaf in leaves])


@pytest.fixture(scope="module")
def losses(network, config):
    return make_losses(network, config, SCALING)


@pytest.fixture(scope="module")
def drawn():
    """Six slots of two cells: whole units, units of one cell, an empty slot whose cells are no numbers at all."""
    random = np.random.default_rng(3)
    cells = random.gamma(1.0, 1.0, size=(6, 2, GENES)).astype(np.float32)
    cells[4] = np.nan
    rows = np.array([[7, 2], [3, 3], [5, 9], [8, 8], [0, 0], [1, 4]], np.int32)
    present = np.array([[1, 1], [1, 0], [1, 1], [1, 0], [0, 0], [1, 1]], bool)
    return Drawn(Batch(cells), rows, present)


@pytest.fixture(scope="module")
def sums(losses, params):
    """The sum of clipped gradients of what is drawn, with so many at once."""
    compiled = {}

    def of(drawn, microbatch=1, clip=CLIP):
        if (microbatch, clip) not in compiled:
            compiled[microbatch, clip] = jax.jit(make_clipped_sum(losses, clip=clip, microbatch=microbatch))
        return flat(compiled[microbatch, clip](params, drawn, jax.random.key(1)))

    return of


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(np.float64)


def slots(drawn, places):
    return jax.tree.map(lambda leaf: leaf[np.asarray(places)], drawn)


def test_the_sum_is_that_of_a_slow_loop_over_units(losses, params, drawn, sums):
    def unit_loss(params, cells, rows):
        return jnp.mean(losses(params, Batch(cells), jax.random.key(1), rows, 1))

    gradient, total, norms = jax.jit(jax.grad(unit_loss)), 0.0, []
    for cells, rows, present in zip(drawn.batch.cells, drawn.rows, drawn.present, strict=True):
        if present.any():
            found = flat(gradient(params, cells[present], rows[present]))
            norms.append(np.linalg.norm(found))
            total = total + found * min(1.0, CLIP / norms[-1])
    assert min(norms) > CLIP  # so that every one is cut
    np.testing.assert_allclose(sums(drawn), total, rtol=2e-4, atol=1e-7)


def test_microbatches_empty_slots_and_their_order_change_nothing(drawn, sums):
    whole = sums(drawn)
    for places, microbatch in (([0, 1, 2, 3, 5, 4], 1), ([4, 5, 3, 2, 1, 0], 1), ([0, 1, 2, 3, 5, 4], 2)):
        np.testing.assert_allclose(sums(slots(drawn, places), microbatch), whole, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(sums(slots(drawn, [4] * 6)), 0)


def test_one_unit_more_moves_the_sum_by_the_clip_at_most(drawn, sums):
    places, whole = [0, 1, 2, 3, 5], sums(drawn)
    # All that come after it move up.
    without = [[*(p for p in places if p != left_out), 4, 4] for left_out in places]
    moved = [np.linalg.norm(whole - sums(slots(drawn, others))) for others in without]
    assert max(moved) <= CLIP * 1.0001
    # What the others are trained at does not hang on it: the difference is its own clipped gradient.
    np.testing.assert_allclose(moved, CLIP, rtol=1e-3)


def test_noise_has_the_deviation_it_is_said_to_have_and_follows_from_key_and_step(network, config, params):
    multiplier, expected = 2.0, 5.0
    step = jax.jit(make_private_step(network, config, SCALING, multiplier=multiplier, expected=expected, microbatch=1))
    nobody = Drawn(Batch(np.ones((2, 1, GENES), np.float32)), np.zeros((2, 1), np.int32), np.zeros((2, 1), bool))
    state = initial_state(network, GENES, config.training, params=params)
    norms = {}
    for name, number, key in (("a", 0, 1), ("again", 0, 1), ("b", 1, 1), ("c", 0, 2)):
        keys = StepKeys(np.array([9, key], np.uint32), np.array([8, 8], np.uint32))
        norms[name] = float(step(state._replace(step=jnp.int32(number)), nobody, keys)[1].gradient_norm)
    size = len(flat(params))
    deviation = norms["a"] * expected / (config.privacy.dp_clip * np.sqrt(size))
    assert deviation == pytest.approx(multiplier, rel=4 / np.sqrt(2 * size))  # four standard errors
    assert norms["a"] == norms["again"]
    assert len({norms["a"], norms["b"], norms["c"]}) == 3


def test_epsilon_agrees_with_the_literature_and_with_renyi_accounting():
    # TensorFlow Privacy's MNIST tutorial: batches of 256 of 60,000, noise 1.1, 60 epochs; 2.6 by Renyi accounting.
    found = Mechanism(1.1, 256 / 60_000).epsilon(14_062, 1e-5)
    renyi = dp_accounting.rdp.RdpAccountant()
    renyi.compose(dp_accounting.PoissonSampledDpEvent(256 / 60_000, dp_accounting.GaussianDpEvent(1.1)), 14_062)
    assert renyi.get_epsilon(1e-5) == pytest.approx(2.6, abs=0.05)
    assert 0.85 * renyi.get_epsilon(1e-5) < found < renyi.get_epsilon(1e-5)


@pytest.mark.parametrize("multiplier", [0.7, 2.0])
def test_epsilon_of_one_whole_batch_is_that_of_the_gaussian_mechanism(multiplier):
    epsilon = Mechanism(multiplier, 1.0).epsilon(1, 1e-5)
    # Balle and Wang 2018, theorem 5.
    middle, half = epsilon * multiplier, 0.5 / multiplier
    delta = norm.cdf(half - middle) - np.exp(epsilon) * norm.cdf(-half - middle)
    assert delta == pytest.approx(1e-5, rel=0.02)


@pytest.mark.parametrize("marginals", [False, True])
def test_the_noise_is_the_least_that_keeps_to_epsilon(marginals):
    found = calibrated(1.0, 1e-5, 0.1, 20, marginals=marginals)
    assert 0.99 < found.epsilon(20, 1e-5) <= 1.0
    assert found.epsilon(10, 1e-5) < 0.99
    assert (found.marginals is not None) == marginals
    if marginals:
        assert found._replace(marginals=None).epsilon(20, 1e-5) < 0.99
    assert calibrated(NO_NOISE, 1e-5, 0.1, 50, marginals=marginals).epsilon(50, 1e-5) == math.inf


def test_delta_is_small_beside_one_cell():
    assert PrivacyConfig(dp_epsilon=1.0).delta_of(100) == 1e-5
    assert PrivacyConfig(dp_epsilon=1.0).delta_of(10**6) == pytest.approx(1e-7)
    assert PrivacyConfig(dp_epsilon=1.0, dp_delta=1e-3).delta_of(10**6) == 1e-3


def test_each_cell_is_drawn_by_itself_with_the_stated_probability():
    cells, probability, steps = Units.cells(40, KEY), 0.3, 4000
    there = np.zeros((steps, 40), bool)
    for step in range(steps):
        there[step, cells.at(step, probability)] = True
    error = np.sqrt(probability * (1 - probability) / steps)
    assert np.abs(there.mean(axis=0) - probability).max() < 5 * error
    # How many come is binomial, and no two cells come together more often than by chance.
    assert there.sum(axis=1).var() == pytest.approx(40 * probability * (1 - probability), rel=0.15)
    assert np.abs(np.corrcoef(there.T) - np.eye(40)).max() < 6 / np.sqrt(steps)
    assert len(cells.at(0, 1.0)) == 40
    assert not np.array_equal(cells.at(0, 0.5), Units.cells(40, KEY + 1).at(0, 0.5))


def test_donors_give_so_many_cells_at_most_all_their_own():
    names = np.array(["b"] * 9 + ["a"] * 2 + ["c"] * 5 + ["b"] * 4)
    donors = Units.donors(names, 4, KEY)
    assert (len(donors), donors.are_cells) == (3, False)
    given = set()
    for step in range(30):
        rows, present = donors.draw(step, 1.0, 2)
        assert rows.shape == (4, 4)
        assert present.sum(axis=1).tolist() == [2, 4, 4, 0]
        for name, mine, there in zip("abc", rows, present, strict=False):
            assert set(names[mine]) == {name}
            assert len(set(mine[there])) == there.sum()
        given |= set(rows[1].tolist())
        np.testing.assert_array_equal(rows, donors.draw(step, 1.0, 2).rows)
    assert given == set(np.flatnonzero(names == "b"))


def test_a_draw_that_is_larger_than_its_room_is_given_more(monkeypatch):
    monkeypatch.setattr(units, "DEVIATIONS", -3)
    cells = Units.cells(200, KEY)
    drawn = cells.draw(0, 0.5, 8)
    assert len(drawn.rows) > cells.room(0.5, 8)
    assert drawn.rows[drawn.present].tolist() == cells.at(0, 0.5).tolist()


@pytest.mark.parametrize("owned", [False, True])
def test_marginals_are_the_cells_own_and_no_unit_moves_them_far(owned):
    random = np.random.default_rng(0)
    shares = random.uniform(0.02, 0.25, size=50)
    x = (random.uniform(size=(400, 50)) < shares) * random.gamma(5.0, 0.4, size=(400, 50))
    x = sparse.csr_matrix(x.astype(np.float32))
    # One donor has a third of the cells.
    names = np.array([f"d{0 if i < 130 else i % 40}" for i in range(400)])

    def of(x, names, multiplier=0.0):
        return private_marginals(x, Units.donors(names, 1, KEY) if owned else Units.cells(x.shape[0], KEY), multiplier)

    odds, center, deviation = of(x, names).T
    assert np.corrcoef(odds, np.log(shares / (1 - shares)))[0, 1] > (0.8 if owned else 0.95)
    assert center[0] == pytest.approx(x.data.mean(), rel=0.1)
    assert deviation[0] == pytest.approx(np.log(x.data.std()), abs=0.2)
    noisy = of(x, names, 1.0)
    assert np.isfinite(of(x, names, 50.0)).all()
    assert not np.array_equal(noisy[:, 0], odds)
    np.testing.assert_array_equal(noisy, of(x, names, 1.0))


@pytest.mark.parametrize("owned", [False, True])
def test_one_unit_more_moves_the_sums_of_the_marginals_by_the_clip_at_most(owned, monkeypatch):
    from scrdit_jax.training.private import marginals

    found = []
    monkeypatch.setattr(marginals, "_marginals", lambda total, *_: found.append(total))
    x = np.random.default_rng(1).gamma(1.0, 3.0, size=(30, 50)).astype(np.float32)  # more than any real cell says
    names = np.array([f"d{min(i // 5, 4)}" for i in range(30)])
    for kept in (np.ones(30, bool), (names != "d4") if owned else np.arange(30) != 7):
        cells = sparse.csr_matrix(x[kept])
        of = Units.donors(names[kept], 1, KEY) if owned else Units.cells(cells.shape[0], KEY)
        private_marginals(cells, of, 0.0)
    assert 0 < np.linalg.norm(found[0] - found[1]) <= np.sqrt(EXPRESSED * 50) * 1.0001


# Runs.


@pytest.fixture(scope="module")
def fixed_key():
    """The same secret for every run of the module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PrivacyKey, "new", classmethod(lambda cls: cls(SECRET)))
        yield


@pytest.fixture(scope="module")
def private_run(tiny_cells, config, tmp_path_factory, fixed_key):
    out, said = tmp_path_factory.mktemp("private") / "run", []
    scrdit.train(tiny_cells, out=out, preset=config, on_notes=said.extend)
    return Run(out), said


def params_of(run):
    with Checkpoints(run) as checkpoints:
        return checkpoints.digest(), jax.tree.leaves(checkpoints.load().params)


def test_a_run_says_what_it_spends_wherever_it_goes(private_run):
    run, said = private_run
    model = load_model(run)
    record = model.privacy
    assert (record.unit, record.steps, record.delta, record.clip) == ("cell", 12, 1e-5, 1.0)
    assert record.units == model.metadata.n_train
    assert record.sampling_probability == pytest.approx(8 / record.units)
    assert 3.99 < record.epsilon <= 4.0
    assert record == PrivacyRecord.from_dict(json.loads(json.dumps(record.to_dict())))
    assert set(record.sentences()) <= set(describe(run.path)) & set(said)
    assert f"epsilon {record.epsilon:.4g} at delta 1e-05 after 12 steps" in record.sentences()[0]
    made = scrdit.sample(run, 3)
    assert Provenance.from_uns(made.uns).models[0].privacy == record


def test_nothing_of_the_cells_goes_beside_it_unsaid(private_run, tiny_cells, config):
    run, _ = private_run
    kinds = {"genes", "mean and the deviation of all values", "cell types", "states", "how many cells"}
    said = load_model(run).privacy.not_covered
    assert all(any(kind in sentence for sentence in said) for kind in kinds)
    metadata = load_model(run).metadata
    assert (metadata.notes, metadata.normalization.sentence) == ((), "")
    assert metadata.digest != scrdit.prepare(tiny_cells, preset=config).metadata.digest
    assert all("loss" not in json.loads(line) for line in run.metrics_path.read_text().splitlines())
    assert not load_model(run).fitted
    ranges = scrdit.settings(config, clip=True, condition_on=["cell_type"], derive={"pc-scores": 2}, quantiles=3)
    prepared = scrdit.prepare(tiny_cells, preset=ranges)
    from scrdit_jax.training.conditions import fit_table
    from scrdit_jax.training.private.coverage import not_covered

    more = not_covered(ranges, prepared.metadata, fit_table(prepared, ranges), None, "cell")
    kinds = {"least and greatest", "quantiles", "categories of cell_type", "principal axes", "distribution"}
    assert all(any(kind in sentence for sentence in more) for kind in kinds)


@pytest.mark.slow
def test_the_key_is_its_owners_and_is_gone_at_the_end(
    private_run, tiny_cells, config, tmp_path, fixed_key, monkeypatch
):
    whole, _ = private_run
    run, stop = Run(tmp_path / "run"), loop.TrainingOptions(stop_after=5)
    prepared = scrdit.prepare(tiny_cells, preset=config)
    config = replace(config, data=prepared.metadata.settings)
    loop.train(prepared, config, run.path, stop)
    assert stat.S_IMODE(key_path(run.path).stat().st_mode) == 0o600
    spent = load_model(run).privacy
    assert spent.steps == 5
    assert spent.epsilon < load_model(whole).privacy.epsilon
    # Another key is not looked for: the same command continues with the one that is there.
    monkeypatch.setattr(PrivacyKey, "new", None)
    loop.train(prepared, config, run.path)
    assert params_of(run)[0] == params_of(whole)[0]
    for folder in (run, whole):
        files = [path for path in folder.path.rglob("*") if path.is_file()]
        assert key_path(folder.path) not in files
        held = b"".join(path.read_bytes() for path in files)
        assert SECRET not in held
        assert SECRET.hex().encode() not in held
    monkeypatch.undo()
    loop.train(prepared, config, run.path)  # complete: nothing is left to do
    assert not key_path(run.path).exists()


@pytest.mark.slow
def test_one_device_with_all_cells_on_it_and_larger_microbatches_makes_the_same_run(
    private_run, tiny_cells, config, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "usable_devices", lambda *_, **__: jax.local_devices()[:1])
    prepared, run = scrdit.prepare(tiny_cells, preset=config), Run(tmp_path / "run")
    config = replace(config.with_settings({"dp_microbatch": 4}), data=prepared.metadata.settings)
    loop.train(prepared, config, run.path, loop.TrainingOptions(resident=True))
    for one, two in zip(params_of(run)[1], params_of(private_run[0])[1], strict=True):
        np.testing.assert_allclose(one, two, rtol=2e-3, atol=2e-5)


def test_new_keys_are_random_and_not_shown():
    keys = {NEW().secret for _ in range(8)}
    assert len(keys) == 8
    assert all(len(key) == 32 for key in keys)
    assert PrivacyKey(SECRET).secret.hex() not in repr(PrivacyKey(SECRET))
    made = PrivacyKey(SECRET)
    words = [made.steps.noise.tolist(), made.steps.cells.tolist(), made.draws.astype(np.uint32).tolist()]
    assert len(set(map(str, words))) == 3


@pytest.mark.slow
def test_donors_are_the_unit_where_their_column_is_named(labelled_cells, config, tmp_path):
    cells = labelled_cells.copy()
    cells.obs["donor"] = [f"d{i % 9}" for i in range(cells.n_obs)]
    run = scrdit.train(cells, out=tmp_path / "run", preset=config, steps=2, donor_key="donor", dp_cells=3)
    record, held_out = load_model(run).privacy, anndata.read_h5ad(run.held_out_path)
    assert (record.unit, record.cells_a_unit) == ("donor", 3)
    assert record.units == 9 - held_out.obs["donor"].nunique()
    assert record.sampling_probability == pytest.approx(8 / (3 * record.units))
    assert any("which donors are held out" in sentence for sentence in record.not_covered)
    with pytest.raises(BadConfig, match="more than"):
        scrdit.train(cells, out=tmp_path / "b", preset=config, donor_key="donor", dp_cells=3, batch_size=32)


@pytest.mark.slow
def test_from_a_public_run_nothing_but_weights_and_sizes_is_of_the_cells(labelled_cells, tiny_config, tmp_path):
    small = {"width": 8, "depth": 1, "heads": 1, "steps": 2}
    changes = {"clip": True, "condition_on": ["cell_type"], "derive": {"pc-scores": 2}, **small}
    public = scrdit.train(labelled_cells, out=tmp_path / "public", preset=tiny_config.with_settings(changes))
    private = labelled_cells[:60].copy()
    private.X = private.X.copy() * 7  # beyond the public cells' ranges
    private.obs["cell_type"] = "T cell"
    run = scrdit.train(private, out=tmp_path / "run", from_run=public, dp_epsilon=5.0, steps=2)
    ours, base = load_model(run), load_model(public)
    own = {"n_train", "n_held_out", "settings", "source", "digest", "notes", "normalization"}
    here, there = ours.metadata.to_dict(), base.metadata.to_dict()
    assert {name for name in here if here[name] != there[name]} <= own
    same = replace(base.metadata.normalization, sentence=ours.metadata.normalization.sentence)
    assert ours.metadata.normalization == same
    assert ours.metadata.settings == replace(base.metadata.settings, held_out=ours.metadata.settings.held_out)
    for name, arrays in vars(base.conditions).items():
        if isinstance(arrays, np.ndarray):
            np.testing.assert_array_equal(getattr(ours.conditions, name), arrays)
    for one, two in zip(base.conditions.prior, ours.conditions.prior, strict=True):
        np.testing.assert_array_equal(one, two)
    assert ours.digest != base.digest
    assert len(ours.privacy.not_covered) == 2
    assert "taken to be public" in ours.privacy.not_covered[0]
    assert ours.privacy.marginals_noise_multiplier is None
    # Without it the same cells would leave their mark.
    widened = Base.load(public, tmp_path / "plain")
    plain = widened.prepare(private, widened.settings({}), transpose=False, stored=False)
    assert plain.metadata.scaling != base.metadata.scaling
    assert not Base.load(run, tmp_path / "plain").settings({}).privacy.on
    private.obs["cell_type"] = "NK cell"
    with pytest.raises(BadConfig, match="'NK cell' here and not in the model of --from"):
        scrdit.train(private, out=tmp_path / "other", from_run=public, dp_epsilon=5.0, steps=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluate_every": 1.0}, "held-out cells would decide"),
        ({"evaluate_every": 1.0, "patience": 2}, "held-out cells would decide"),
        ({"accumulate": 2}, "use --dp-microbatch"),
        ({"conditions": "bootstrap"}, "would hold training cells"),
        ({"dp_epsilon": 0.0}, "dp_epsilon is 0.0"),
        ({"dp_epsilon": -1.0}, "dp_epsilon is -1.0"),
        ({"dp_epsilon": math.nan}, "dp_epsilon is nan"),
        ({"dp_epsilon": math.inf}, "dp_epsilon is inf"),
        ({"dp_epsilon": "10"}, "dp_epsilon is '10'"),
        ({"dp_epsilon": True}, "dp_epsilon is True"),
        ({"dp_delta": 1.0}, "dp_delta is 1.0"),
        ({"dp_clip": 0.0}, "dp_clip is 0.0"),
        ({"dp_cells": 0}, "dp_cells is 0"),
        ({"dp_microbatch": 0}, "dp_microbatch is 0"),
        ({"dp_epsilon": None, "dp_clip": 0.5}, "say how much of it as --dp-epsilon"),
        ({"donor_key": "donor", "dp_cells": 9}, "less than the 9 of one donor"),
    ],
)
def test_what_cannot_be_had_with_it_is_refused(config, changes, message):
    with pytest.raises(BadConfig, match=message):
        config.with_settings(changes)


def test_runs_that_cannot_be_had_with_it_are_refused(private_run, tiny_cells, config, tmp_path, monkeypatch):
    with pytest.raises(BadConfig, match="a batch of 80 cells is more than"):
        scrdit.train(tiny_cells, out=tmp_path / "a", preset=config, batch_size=80)
    assert not (tmp_path / "a").exists()
    with pytest.raises(BadConfig, match="--per-cell-type and --dp-epsilon"):
        scrdit.train(tiny_cells, out=tmp_path / "a", preset=config, per_cell_type=True)
    lengthened = config.with_settings({"learning_rate_schedule": "constant", "steps": 99})
    assert lengthened.differences_to(lengthened.with_settings({"steps": 12}))
    prepared = scrdit.prepare(tiny_cells, preset=config)
    config, run = replace(config, data=prepared.metadata.settings), Run(tmp_path / "b")
    loop.train(prepared, config, run.path, loop.TrainingOptions(stop_after=5))
    key_path(run.path).write_text("{}")
    with pytest.raises(RunMismatch, match="cannot be read"):
        loop.train(prepared, config, run.path)
    key_path(run.path).unlink()
    with pytest.raises(RunMismatch, match="is gone, without which"):
        loop.train(prepared, config, run.path)

    def none(module, *, extra):
        raise MissingExtra(f"{module} is not installed; run: pip install 'scrdit_jax[{extra}]'")

    monkeypatch.setattr(session, "optional", none)
    with pytest.raises(MissingExtra, match=r"scrdit_jax\[privacy\]"):
        scrdit.train(tiny_cells, out=tmp_path / "c", preset=config)
    assert not (tmp_path / "c").exists()


def test_without_it_settings_are_as_they_were(tiny_config):
    assert "privacy" not in tiny_config.to_dict()
    asked = tiny_config.with_settings({"dp_epsilon": 2.0})
    assert RunConfig.from_dict(json.loads(json.dumps(asked.to_dict()))) == asked
    assert (asked.training.stratified_levels, asked.training.gradient_clip) == (False, None)
    assert (tiny_config.training.stratified_levels, tiny_config.training.gradient_clip) == (True, 1.0)
