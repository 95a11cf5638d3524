import numpy as np
import pytest

from scrdit_jax.config import DiffusionConfig, TrainingConfig
from scrdit_jax.diffusion.schedule import linear_schedule, timestep_probabilities


def slow_alpha_bars(config: DiffusionConfig) -> list[float]:
    """Eq. 3 and 5, one timestep at a time."""
    products, product = [1.0], 1.0
    for t in range(1, config.timesteps + 1):
        beta = config.beta_start + (config.beta_end - config.beta_start) * (t - 1) / (config.timesteps - 1)
        product *= 1 - beta
        products.append(product)
    return products


@pytest.mark.parametrize(
    "config",
    [
        DiffusionConfig(),
        DiffusionConfig(timesteps=2, beta_end=0.99),
        DiffusionConfig(timesteps=37, beta_start=0.01, beta_end=0.4),
    ],
)
def test_alpha_bars_are_the_running_products_of_one_minus_beta(config):
    schedule = linear_schedule(config)
    np.testing.assert_allclose(schedule.alpha_bars, slow_alpha_bars(config), rtol=1e-12)
    assert schedule.alpha_bars.dtype == np.float64
    assert schedule.timesteps == config.timesteps
    assert schedule.alpha_bars[0] == 1.0
    assert np.all(np.diff(schedule.alpha_bars) < 0)


def test_the_default_schedule_ends_where_the_paper_s_does():
    # prod (1 - beta) of the linear schedule of Ho et al. 2020: abar_1000 = 4.04e-5, so x_T is all but pure noise.
    assert linear_schedule(DiffusionConfig()).alpha_bars[-1] == pytest.approx(4.0358e-5, rel=1e-4)


def test_log_snr_falls_and_is_the_logit_of_alpha_bar():
    schedule = linear_schedule(DiffusionConfig(timesteps=50, beta_end=0.3))
    slow = [np.log(abar / (1 - abar)) for abar in schedule.alpha_bars[1:]]
    np.testing.assert_allclose(schedule.log_snr, slow, rtol=1e-12)
    assert np.all(np.diff(schedule.log_snr) < 0)


def test_timesteps_are_drawn_uniformly_when_no_log_snr_is_given():
    probabilities = timestep_probabilities(
        linear_schedule(DiffusionConfig(timesteps=40, beta_end=0.3)), TrainingConfig()
    )
    assert probabilities.tolist() == [1 / 40] * 40


@pytest.mark.parametrize(("mean", "std"), [(-1.5, 1.5), (0.0, 2.0), (2.0, 0.7)])
def test_drawn_log_snr_has_the_asked_mean_and_deviation_where_the_schedule_reaches(mean, std):
    schedule = linear_schedule(DiffusionConfig())
    probabilities = timestep_probabilities(schedule, TrainingConfig(log_snr_mean=mean, log_snr_std=std))
    assert probabilities.shape == (1000,)
    assert np.all(probabilities >= 0)
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)
    measured = probabilities @ schedule.log_snr
    assert measured == pytest.approx(mean, abs=0.01 * std)
    assert np.sqrt(probabilities @ (schedule.log_snr - measured) ** 2) == pytest.approx(std, rel=0.01)


def test_a_normal_that_the_schedule_cuts_off_still_gives_probabilities():
    schedule = linear_schedule(DiffusionConfig())
    probabilities = timestep_probabilities(schedule, TrainingConfig(log_snr_mean=12.0, log_snr_std=1.0))
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)
    assert probabilities.argmax() == 0


@pytest.mark.parametrize(("mean", "std"), [(-100.0, 1.0), (100.0, 1.0), (0.1234, 1e-3)])
def test_a_normal_far_outside_or_narrower_than_a_timestep_still_gives_probabilities(mean, std):
    schedule = linear_schedule(DiffusionConfig())
    probabilities = timestep_probabilities(schedule, TrainingConfig(log_snr_mean=mean, log_snr_std=std))
    assert np.all(np.isfinite(probabilities))
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)
    assert probabilities.argmax() == np.abs(schedule.log_snr - mean).argmin()
