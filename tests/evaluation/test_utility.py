"""Utility on cells whose types are known: good cells score like real ones, mislabelled and missing ones do not."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import f1_score

from scrdit_jax.evaluation import report
from scrdit_jax.evaluation.cells import ComparedCells
from scrdit_jax.evaluation.comparison import CANDIDATES, REAL, SHUFFLED, SYNTHETIC
from scrdit_jax.evaluation.markers import rank_correlation
from scrdit_jax.evaluation.pools import draw_pools
from scrdit_jax.evaluation.real_split import (
    AGREEMENT,
    ALONE,
    COMPOSITION,
    OVERLAP,
    WITH_COPIES,
    WITH_SYNTHETIC,
    RealSplit,
    TypedCells,
    real_splits,
    stratified_halves,
)
from scrdit_jax.evaluation.type_classifiers import ACCURACY, CENTROID, LOGISTIC, MACRO_F1, f1_of_types, train_and_test
from scrdit_jax.evaluation.utility import score_utility

pytestmark = pytest.mark.usefixtures("no_forest")


def typed(counts, seed, genes=60, wrong=0):
    """Cells of the types A, B, ...: each has ten genes of its own; `wrong` shifts the names."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(counts)), counts)
    level = (np.arange(genes)[None, :] // 10 == codes[:, None]) * 2.0
    x = np.maximum(level + rng.normal(0.5, 0.7, (len(codes), genes)), 0).astype(np.float32)
    order = rng.permutation(len(codes))
    return TypedCells(x[order], np.array(list("ABCDEF"))[(codes[order] + wrong) % len(counts)])


@pytest.fixture
def split():
    return RealSplit(typed((60, 50, 40), 0), typed((30, 25, 20), 1))


def test_f1_is_counted_by_hand_and_sklearns():
    true, found = np.array(list("AAAABBBC")), np.array(list("AAABBBAA"))
    f1 = f1_of_types(true, found, ["A", "B", "C", "D"])
    assert f1 == {"A": pytest.approx(6 / 9), "B": pytest.approx(4 / 6), "C": 0.0, "D": 0.0}
    assert np.mean([f1[t] for t in "ABC"]) == pytest.approx(f1_score(true, found, average="macro", zero_division=0))


def test_rank_correlation_is_scipys():
    x, y = np.random.default_rng(0).integers(0, 5, (2, 30))
    assert rank_correlation(x, y) == pytest.approx(spearmanr(x, y)[0])
    assert rank_correlation(x, np.zeros(30)) == 0


def test_halves_have_half_of_every_type():
    types = np.array(["A"] * 11 + ["B"] * 4 + ["C"])
    one, other = stratified_halves(types, np.random.default_rng(0))
    assert sorted([*one, *other]) == list(range(16))
    for name, count in (("A", 11), ("B", 4), ("C", 1)):
        assert {np.sum(types[one] == name), np.sum(types[other] == name)} == {count // 2, count - count // 2}


def test_classifiers_know_what_they_were_trained_on(split):
    good = split.classified(typed((60, 50, 40), 2))
    wrong = split.classified(typed((60, 50, 40), 2, wrong=1))
    for name in (LOGISTIC, CENTROID):
        assert good[name][ACCURACY] > 0.95
        assert wrong[name][ACCURACY] < 0.05
    # A type that is never made is never found: two of three F1 at best, the third type's cells being taken for others.
    lacking = split.classified(typed((60, 50, 0), 2))
    assert lacking[LOGISTIC][MACRO_F1] < 0.67 < good[LOGISTIC][MACRO_F1]
    alone = train_and_test(split.fit.x[:9], np.full(9, "A"), split.test.x, split.test.types)
    assert alone[CENTROID][ACCURACY] == pytest.approx(np.mean(split.test.types == "A"))


def test_the_classifiers_see_nothing_of_the_test_cells(split):
    few = typed((20, 20, 20), 3)
    x, types = split.test.x[:20], split.test.types[:20]
    whole = train_and_test(few.x, few.types, x, types)
    alone = [train_and_test(few.x, few.types, x[i : i + 1], types[i : i + 1])[LOGISTIC][ACCURACY] for i in range(20)]
    assert np.mean(alone) == pytest.approx(whole[LOGISTIC][ACCURACY])


def test_types_are_transferred_and_shares_compared(split):
    made = typed((30, 25, 20), 4)
    scores, found = split.recognised(made, made.types)
    assert scores[AGREEMENT] == np.mean(found == made.types) > 0.95
    shares = [np.mean(found == t) - np.mean(split.fit.types == t) for t in "ABC"]
    assert scores[COMPOSITION] == pytest.approx(np.abs(shares).sum() / 2)
    only = split.recognised(typed((75, 0, 0), 4), None)[0]
    assert only == {COMPOSITION: pytest.approx(0.6)}
    assert split.recognised(made, np.full(len(made), "unknown"))[0].keys() == {COMPOSITION}


def test_markers_are_found_again_by_type(split):
    good, swapped = (split.markers_found(typed((30, 25, 20), 5, wrong=wrong)) for wrong in (0, 1))
    # Ten of twenty markers stand out, the others are chance.
    assert all(value >= 0.5 for value in good[OVERLAP].values())
    assert all(good["rank_correlation"][name] > 0.6 > swapped["rank_correlation"][name] for name in "ABC")
    missing = split.markers_found(typed((40, 35, 0), 5))
    assert missing[OVERLAP]["C"] == 0


def test_rare_types_are_filled_up_with_cells_of_the_type_alone():
    split = RealSplit(typed((120, 110, 5), 0), typed((40, 40, 8), 1))
    assert split.rare == ["C"]
    pure = typed((5, 5, 60), 2)
    found = split.augmented(pure, np.random.default_rng(0))
    assert found.added == {"C": 60}  # of the 105 that are lacking to the median of 110
    assert set(found.values) == {ALONE, WITH_COPIES, WITH_SYNTHETIC}
    assert found.values[WITH_SYNTHETIC]["C"] > 0.9
    # Cells of another type under its name do harm.
    spoilt = typed((0, 60, 0), 3)
    false = split.augmented(TypedCells(spoilt.x, np.full(60, "C")), np.random.default_rng(0))
    assert false.values[WITH_SYNTHETIC][MACRO_F1] < found.values[ALONE][MACRO_F1] - 0.1
    assert RealSplit(typed((50, 50), 0), typed((50, 50), 1)).augmented(pure, np.random.default_rng(0)) is None


def test_training_cells_are_learnt_from_where_they_are_known():
    training, held_out = typed((60, 50, 40), 0), typed((30, 25, 20), 1)
    ((split, _),) = real_splits(training, held_out, seed=0, repeats=1, max_cells=100)
    assert (len(split.fit), len(split.test)) == (100, 75)
    ((split, _),) = real_splits(None, held_out, seed=0, repeats=1, max_cells=100)
    assert len(split.fit) + len(split.test) == 75


def scored(held_out, synthetic, training=None, column="cell_type"):
    cells = ComparedCells(held_out=held_out, synthetic=synthetic, training=training)
    pools = draw_pools(held_out, synthetic, seed=0, max_cells=2000)
    return score_utility(cells, pools, column, seed=0, repeats=2)


@pytest.mark.parametrize("given", [True, False])
def test_synthetic_cells_stand_between_floor_and_control(real, synthetic, make_cells, given):
    if not given:
        del synthetic.obs["cell_type"]
    scores, reason = scored(real, synthetic, training=make_cells(300, 5)[:, ::-1].copy())
    assert reason == ""
    assert (scores.given, scores.learnt_from, scores.trained_cells, scores.test_cells) == (
        given, "training cells", 140, 101,
    )  # fmt: skip
    for classifier in scores.classifiers.values():
        for values in classifier.values():
            assert set(values) == set(CANDIDATES)
            assert values[SHUFFLED].mean < 0.8 < 0.95 < min(values[SYNTHETIC].mean, values[REAL].mean)
    assert (SYNTHETIC in scores.recognised[AGREEMENT]) == given
    assert scores.recognised[AGREEMENT][REAL].mean > 0.95
    assert [one.name for one in scores.by_type] == ["B cell", "T cell"]
    assert sum(one.transferred for one in scores.by_type) == pytest.approx(1)
    assert all((one.agreement is None) != given for one in scores.by_type)
    assert scores.augmentation == {}


def test_without_training_cells_half_the_held_out_ones_are_learnt_from(real, synthetic):
    scores, _ = scored(real, synthetic)
    assert (scores.learnt_from, scores.learnt_cells, scores.test_cells) == ("held-out cells", 51, 50)
    assert scores.classifiers[LOGISTIC][ACCURACY][REAL].mean > 0.9


def test_cells_without_a_type_are_left_out_on_either_side(real, synthetic):
    for cells in (real, synthetic):
        cells.obs["cell_type"] = cells.obs["cell_type"].where(np.arange(cells.n_obs) >= 20)
    scores, _ = scored(real, synthetic)
    assert scores.learnt_cells + scores.test_cells == 81
    assert "nan" not in {one.name for one in scores.by_type}


def test_without_types_a_sentence_says_so(real, synthetic, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "_pictures", lambda *_: {})
    del real.obs["cell_type"]
    found = report.evaluate(ComparedCells(held_out=real, synthetic=synthetic), out=tmp_path / "report", repeats=1)
    said = "Utility was not scored: the real cells have no column of cell types."
    assert said in str(found)
    assert json.loads((tmp_path / "report/report.json").read_text())["utility"] is None
    assert "Not scored: the real cells have no column of cell types." in (tmp_path / "report/report.html").read_text()
    real.obs["cell_type"] = "one"
    assert scored(real, synthetic) == (None, "under two cell types have enough real cells")


def test_a_column_of_another_kind_is_called_by_its_name(real, synthetic, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "_pictures", lambda *_: {})
    for cells in (real, synthetic):
        cells.obs["condition"] = cells.obs.pop("cell_type")
    compared = ComparedCells(held_out=real, synthetic=synthetic)
    found = report.evaluate(compared, cell_type_key="condition", out=tmp_path / "report", repeats=1)
    assert "A classifier of the condition that" in found.summary()
    assert "What is called a cell type here is the cells' 'condition'." in found.notes()
    page = (tmp_path / "report/report.html").read_text()
    assert "<span>condition</span>" in page
    assert "<span>cell type</span>" not in page
    assert json.loads((tmp_path / "report/report.json").read_text())["type_column"] == "condition"


def test_the_report_has_utility_in_words_tables_and_json(real, synthetic, make_cells):
    cells = ComparedCells(held_out=real, synthetic=synthetic, training=make_cells(300, 5))
    found = report.evaluate(cells, repeats=1)
    written = json.loads(json.dumps(found.to_dict()))["utility"]
    assert written["classifiers"]["logistic"]["accuracy"]["synthetic"]["mean"] > 0.9
    assert written["by_type"][0]["name"] == "B cell"
    assert "A classifier of the cell type that has seen only synthetic cells is right for" in found.summary()
    for words in (
        "Accuracy, nearest centroid",
        "Markers: overlap of 20",
        "given is transferred",
        "no type with enough",
    ):
        assert words in str(found) + str(found.sections())
