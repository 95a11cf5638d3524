"""A new metric is one new file: the report, its page and its table have it."""

import json

import pytest

import scrdit_jax
from scrdit_jax.errors import BadConfig
from scrdit_jax.evaluation import metrics
from scrdit_jax.registry import METRICS

TOY = """
from scrdit_jax.evaluation.metrics import Metric

METRICS = (
    Metric(
        name="toy_difference",
        title="Toy: difference of means",
        better="0",
        table="{table}",
        compute=lambda pair: pair.synthetic.mean() - pair.real.mean(),
        sees="Whether values are as large.",
        blind="Everything else.",
    ),
)
"""


def test_a_metric_in_a_new_file_is_in_the_report(scrdit, add_part, tiny_run, tmp_path):
    add_part(metrics, "a_toy", TOY.format(table="Leading scores"))
    scrdit_jax.sample(tiny_run, 40, steps=3).write_h5ad(tmp_path / "cells.h5ad")
    status, text = scrdit("evaluate", tiny_run.path, "cells.h5ad", "--out", "report", "--repeats", 1)
    assert status == 0, text
    assert "Toy: difference of means" in text
    found = json.loads((tmp_path / "report/report.json").read_text())["metrics"]
    assert set(found["toy_difference"]) >= {"synthetic", "real vs real", "genes shuffled", "sees"}
    assert abs(found["toy_difference"]["genes shuffled"]["mean"]) < 1
    assert "Toy: difference of means" in (tmp_path / "report/report.html").read_text()


def test_tables_keep_their_order_and_new_ones_come_last(add_part):
    before = [metric.name for metric in metrics.all_metrics()]
    add_part(metrics, "a_toy", TOY.format(table="My scores"))
    assert [metric.name for metric in metrics.all_metrics()] == [*before, "toy_difference"]
    assert list(metrics.metric_tables()) == [*metrics.TABLES, "My scores"]
    assert list(METRICS) == ["a-toy", "further", "leading", "neighbours", "paper", "spectrum"]


def test_two_metrics_of_one_name_are_refused(add_part):
    add_part(metrics, "first_toy", TOY.format(table="x"))
    add_part(metrics, "second_toy", TOY.format(table="x"))
    with pytest.raises(BadConfig, match="two metrics are called 'toy_difference'; rename one"):
        metrics.all_metrics()
