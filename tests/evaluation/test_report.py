import base64
import dataclasses
import errno
import hashlib
import html.parser
import importlib
import json
import os
import re

import numpy as np
import pytest

from scrdit_jax.errors import BadInput, DiskFull, MissingExtra, OutputExists
from scrdit_jax.evaluation import privacy, report
from scrdit_jax.evaluation.cells import ComparedCells
from scrdit_jax.evaluation.comparison import CANDIDATES
from scrdit_jax.evaluation.membership import RELEASES
from scrdit_jax.evaluation.metrics import all_metrics
from scrdit_jax.evaluation.page import TEMPLATES

FILES = {"report.json", "report.html", "tsne.png", "violins.png", "gene_means.png", "library_sizes.png"}
pytestmark = pytest.mark.usefixtures("no_forest")
PNG = b"\x89PNG\r\n\x1a\n"
METRICS = all_metrics()


def evaluate(real, synthetic, *, training=None, **options):
    return report.evaluate(ComparedCells(held_out=real, synthetic=synthetic, training=training), **options)


class Page(html.parser.HTMLParser):
    """Collects what is open, what is fetched, and the text."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.tags, self.text, self.ids = [], [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def scattered(real, synthetic, seed):
    """A place for each cell, at once."""
    return np.random.default_rng(seed).normal(size=(len(real) + len(synthetic), 2))


@pytest.fixture
def drawn(monkeypatch):
    """Pictures without drawing them."""
    monkeypatch.setattr(report, "_pictures", lambda *_: {name: PNG for name in FILES if name.endswith("png")})
    monkeypatch.setattr(report, "_embedded", scattered)


def test_the_folder_holds_what_the_report_says(real, synthetic, tmp_path, monkeypatch):
    monkeypatch.setattr(report.plots, "tsne", lambda *_, **__: PNG)  # slow, and tested by itself
    monkeypatch.setattr(report, "_embedded", scattered)
    result = evaluate(real, synthetic, out=tmp_path / "new" / "report", repeats=1)
    folder = tmp_path / "new" / "report"
    assert {path.name for path in folder.iterdir()} == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["report"]
    assert all((folder / name).read_bytes().startswith(PNG) for name in FILES if name.endswith("png"))
    written = json.loads((folder / "report.json").read_text())
    assert written == result.to_dict()
    assert written["schema"] == 4
    assert set(written["metrics"]) == {metric.name for metric in METRICS}
    assert set(written["metrics"]["mmd_pca"]["genes shuffled"]) == {"mean", "sd"}
    assert written["provenance"] == {"solver": "ddim", "steps": 20, "eta": 0.5, "note": "<script>&"}
    assert {"python", "numpy", "scikit-learn"} <= set(written["versions"])
    assert written["sizes"]["cells_per_side"] == 50


def test_the_page_is_well_formed_self_contained_and_escaped(real, synthetic, tmp_path, drawn):
    result = evaluate(real, synthetic, out=tmp_path / "report", repeats=1)
    text = (tmp_path / "report" / "report.html").read_text()
    page = Page()
    page.feed(text)
    page.close()
    assert not page.open
    assert all(source.startswith("#") for source in page.sources)
    assert not re.search(r"https?://|url\(|@import", text)
    # The data and the package's own script, and no other may run.
    assert page.tags.count("script") == 2
    script = (TEMPLATES / "report.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text
    assert f"<script>{script}</script>" in text
    assert len(page.ids) == len(set(page.ids))
    shown = "".join(page.text)
    assert "<script>&" in shown
    assert result.summary() in shown
    assert all(metric.title in shown and metric.blind in shown for metric in METRICS)


def test_the_text_is_an_aligned_table(real, synthetic):
    result = evaluate(real, synthetic, repeats=2)
    text = str(result)
    auc = result.comparison.values["random_forest_auc"]["synthetic"].mean
    assert text.startswith(f"A random forest tells these cells from real ones with AUC {auc:.2f} (0.50 would be chance")
    titles = tuple(m.title + " " for m in METRICS)
    rows = [line for line in text.splitlines() if line.startswith(titles) and ("±" in line or "n/a" in line)]
    assert len(rows) == len(METRICS)
    tables = [
        [row for row in rows if row.startswith(tuple(m.title + " " for m in METRICS if m.table == table))]
        for table in {m.table for m in METRICS}
    ]
    assert all(len({len(row) for row in table}) == 1 for table in tables)
    # Half of 50 real cells have 24 components.
    assert [row.count("±") for row in rows] == [0 if "PCs 31-50" in row else 3 for row in rows]


def test_a_report_is_replaced_and_anything_else_is_not(real, synthetic, tmp_path, drawn):
    out = tmp_path / "report"
    out.mkdir()  # empty is fine
    evaluate(real, synthetic, out=out, repeats=1)
    before = (out / "report.json").read_text()
    evaluate(real, synthetic, out=str(out), repeats=1, seed=1)
    assert (out / "report.json").read_text() != before
    (tmp_path / "file").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    for taken, rule in (("file", "is not a folder"), ("other", "holds other things"), ("file/report", "is a file")):
        with pytest.raises(OutputExists, match=f"{rule}.*choose another --out"):
            evaluate(real, synthetic, out=tmp_path / taken)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_leaves_nothing_half_written(real, synthetic, tmp_path, drawn, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(report, "html_page", full)
    with pytest.raises(DiskFull, match="no space left while writing"):
        evaluate(real, synthetic, out=tmp_path / "report", repeats=1)
    assert not list(tmp_path.iterdir())


def test_cell_types_are_found_or_asked_for(real, synthetic, tmp_path, monkeypatch):
    seen = {}
    for name in ("violins", "gene_means", "library_sizes"):
        monkeypatch.setattr(report.plots, name, lambda *_: PNG)
    monkeypatch.setattr(report, "_embedded", scattered)
    monkeypatch.setattr(report.plots, "tsne", lambda *_, cell_types, seed, points: seen.update(types=cell_types) or PNG)
    real.obs["kind"] = real.obs["cell_type"].str.upper()
    evaluate(real, synthetic, out=tmp_path / "named", repeats=1, cell_type_key="kind")
    assert set(seen["types"]) == {"T CELL", "B CELL"}
    pools = report.draw_pools(real, synthetic, seed=0, max_cells=2000)
    expected = real.obs["kind"].to_numpy()[pools.real_rows]
    assert list(seen["types"]) == list(expected)
    with pytest.raises(BadInput, match="no column 'colour'; their columns: cell_type, kind"):
        evaluate(real, synthetic, cell_type_key="colour")
    del real.obs["cell_type"]
    evaluate(real, synthetic, out=tmp_path / "none", repeats=1)
    assert seen["types"] is None


def test_provenance_is_flattened_and_long_records_left_out(real, synthetic):
    synthetic.uns["scrdit"] = {"model": {"preset": "demo", "loss": float("nan")}, "facts": "x" * 1000, "types": [1, 2]}
    assert evaluate(real, synthetic, repeats=1).provenance == {
        "model.preset": "demo",
        "model.loss": None,
        "types": "[1, 2]",
    }
    del synthetic.uns["scrdit"]
    assert evaluate(real, synthetic, repeats=1).provenance == {}


@pytest.mark.parametrize("module", ["sklearn", "matplotlib", "jinja2"])
def test_a_missing_extra_says_what_to_install(real, synthetic, tmp_path, monkeypatch, module):
    def absent(name, *rest):
        if name.startswith(module):
            raise ModuleNotFoundError(name)
        return original(name, *rest)

    original = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingExtra, match=rf"{module} is not installed; run: pip install 'scrdit_jax\[evaluate\]'"):
        evaluate(real, synthetic, out=tmp_path / "report", repeats=1)
    assert not list(tmp_path.iterdir())


def test_markers_and_memorisation_stand_beside_held_out_cells(real, synthetic, make_cells, tmp_path, drawn):
    result = evaluate(real, synthetic, training=make_cells(300, 5)[:, ::-1].copy(), out=tmp_path / "report", repeats=2)
    written = json.loads((tmp_path / "report/report.json").read_text())
    markers, memorisation = written["markers"], written["privacy"]["copying"]
    assert markers["types"] == ["B cell", "T cell"]
    assert (markers["per_type"], markers["cells_per_side"]) == (20, 50)
    assert set(markers["error"]) == set(markers["correlation"]) == set(CANDIDATES)
    assert markers["error"]["synthetic"]["mean"] < 0.3 < markers["error"]["genes shuffled"]["mean"]
    assert (memorisation["training_cells"], memorisation["held_out_cells"]) == (300, 101)
    for score in ("copied_share", "nearest_is_training"):
        assert set(memorisation[score]) == {"synthetic", "real vs real"}
        assert all(0 <= estimate["mean"] <= 1 for estimate in memorisation[score].values())
    assert memorisation["copied_share"]["synthetic"]["mean"] < 0.3
    text, page = str(result), (tmp_path / "report/report.html").read_text()
    for row in [row for section in result.sections() for row in section.rows]:
        assert row.title in text
        assert row.title in page
    assert "lie nearer to a training cell than 95 % of held-out cells do" in result.summary()
    assert not any("not scored" in note for note in result.notes())


def test_copied_training_cells_are_found_out(real, make_cells):
    training = make_cells(300, 5)
    copies = training[:140].copy()
    assert (
        evaluate(real, copies, training=training, repeats=1).privacy.copying.values["copied_share"]["synthetic"].mean
        == 1
    )


def test_without_training_cells_a_sentence_says_what_to_do(real, synthetic, make_cells, tmp_path, drawn):
    result = evaluate(real, synthetic, out=tmp_path / "report", repeats=1)
    assert json.loads((tmp_path / "report/report.json").read_text())["privacy"] is None
    said = "Privacy was not scored: the synthetic cells do not say what they were trained on"
    assert any(note.startswith(said) for note in result.notes())
    assert said in str(result)
    assert "Not scored: the synthetic cells do not say" in (tmp_path / "report/report.html").read_text()
    few = evaluate(real, synthetic, training=make_cells(8, 3), repeats=1)
    assert few.privacy is None
    assert "8 training cells are too few" in few.no_privacy


def test_without_types_on_both_sides_there_are_no_markers(real, synthetic):
    del synthetic.obs["cell_type"]
    result = evaluate(real, synthetic, repeats=1)
    assert result.markers is None
    assert result.types == ()
    assert result.to_dict()["markers"] is None


def test_names_from_the_files_are_escaped_wherever_they_stand(real, synthetic, tmp_path, drawn):
    names = {"T cell": "<b>T</b>", "B cell": '"B" & co'}
    for cells in (real, synthetic):
        cells.obs["cell_type"] = cells.obs["cell_type"].map(names)
    synthetic.uns["scrdit"] = {"<i>": "</td><script>alert(1)</script>"}
    for cells in (real, synthetic):
        cells.var_names = [f"</script><x>{name}" for name in cells.var_names]
    synthetic.obs_names = [f"--><!--<script>{i}" for i in range(synthetic.n_obs)]
    result = evaluate(real, synthetic, out=tmp_path / "report", repeats=1)
    result = dataclasses.replace(result, no_privacy="<u>why</u>")
    pools = report.draw_pools(real, synthetic, seed=0, max_cells=2000)
    cells = ComparedCells(held_out=real, synthetic=synthetic)
    text = report.html_page(result, report.charts(report._shown(cells, pools, "cell_type", 0)))
    page = Page()
    page.feed(text)
    page.close()
    assert not page.open
    assert page.tags.count("script") == 2
    assert not {"b", "i", "u", "x"} & set(page.tags)
    shown = "".join(page.text)
    for words in (*names.values(), "<i>", "</td><script>alert(1)</script>", "Not scored: <u>why</u>."):
        assert words in shown
    # In the data, which are a script's text, no name can end it or begin another.
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert not re.search("[<>&]", data)
    assert json.loads(data)["genes"]["names"][0].startswith("</script><x>GENE")
    assert json.loads(data)["cells"]["names"][0].startswith("--><!--<script>")


def with_donors(cells, prefix, donors):
    """The cells of so many donors, in turn."""
    cells.obs["donor"] = [f"{prefix}{i % donors}" for i in range(cells.n_obs)]
    return cells


def test_privacy_stands_beside_floor_and_control(real, synthetic, make_cells, tmp_path, drawn):
    training = make_cells(300, 5)
    result = evaluate(real, synthetic, training=training, out=tmp_path / "report", repeats=1)
    written = json.loads((tmp_path / "report/report.json").read_text())["privacy"]
    assert set(written) == {"copying", "membership", "donors", "notes"}
    assert written["donors"] is None
    for release, released in zip(RELEASES, (140, 33, 140), strict=True):
        found = written["membership"][release]
        assert found["released"] in (released, released + 1)
        assert set(found["auc"]) == set(found["tpr"]) == {"plain", "calibrated"}
    membership = written["membership"]
    assert membership["training cells released"]["auc"]["calibrated"]["mean"] > 0.99
    assert membership["synthetic"]["auc"]["calibrated"]["mean"] < 0.7
    text, page = str(result), (tmp_path / "report/report.html").read_text()
    for words in ("Privacy: which cells were trained on", "Found at 1 % false alarms, knowing other cells", *RELEASES):
        assert words in text
        assert words in page
    assert "at 1 % false alarms (AUC" in result.summary()
    assert any("140 synthetic cells give away less than more of them do" in note for note in result.notes())
    assert any("One in a hundred of 50 cells" in note for note in result.notes())


def test_more_cells_than_are_attacked_are_drawn_and_said(real, synthetic, make_cells, monkeypatch):
    monkeypatch.setattr(privacy, "MOST_RELEASED", 100)
    result = evaluate(real, synthetic, training=make_cells(300, 5), repeats=1)
    assert result.privacy.membership["synthetic"].released == 100
    assert any("Attacked were 100 of the 140 synthetic cells, drawn at random." in note for note in result.notes())


def test_donors_are_attacked_where_they_are_named(real, synthetic, make_cells, tmp_path, drawn):
    training = with_donors(make_cells(300, 5), "m", 6)
    real = with_donors(real, "o", 5)
    result = evaluate(real, synthetic, training=training, donor_key="donor", out=tmp_path / "report", repeats=1)
    written = json.loads((tmp_path / "report/report.json").read_text())["privacy"]["donors"]
    assert (written["members"], written["others"], written["left_out"]) == (6, 5, 0)
    page = (tmp_path / "report/report.html").read_text()
    assert "Privacy: which donors were trained on" in str(result)
    assert "Privacy: which donors were trained on" in page
    assert "m3" not in json.dumps(written)
    # A model that held out whole donors has them attacked without being asked; what is amiss is then a sentence.
    cells = ComparedCells(held_out=real, synthetic=synthetic, training=training, donor_key="donor")
    assert report.evaluate(cells, repeats=1).privacy.donors.members == 6
    few = dataclasses.replace(cells, training=with_donors(training.copy(), "m", 2))
    assert "2 donors in 'donor' with 5 cells or more are trained on" in str(report.evaluate(few, repeats=1).sections())


def test_donors_that_cannot_be_attacked_are_refused_in_a_line(real, synthetic, make_cells):
    real = with_donors(real, "m", 5)
    with pytest.raises(BadInput, match="donors cannot be attacked without the training cells: the synthetic cells do"):
        evaluate(real, synthetic, donor_key="donor", repeats=1)
    with pytest.raises(BadInput, match=r"of the same donors in 'donor' \(m0, .* train with --donor-key donor"):
        evaluate(real, synthetic, training=with_donors(make_cells(300, 5), "m", 6), donor_key="donor", repeats=1)
    with pytest.raises(BadInput, match="REAL has no column 'donor' for donors"):
        evaluate(real, synthetic, training=make_cells(300, 5), donor_key="donor", repeats=1)


def test_real_cells_without_a_type_are_drawn_as_such(real, synthetic, monkeypatch):
    monkeypatch.setattr(report, "_embedded", scattered)
    del synthetic.obs["cell_type"]
    real.obs["cell_type"] = real.obs["cell_type"].where(np.arange(real.n_obs) >= 20)
    cells = ComparedCells(held_out=real, synthetic=synthetic)
    shown = report._shown(cells, report.draw_pools(real, synthetic, seed=0, max_cells=2000), "cell_type", 0)
    assert set(shown.types[:101]) == {"B cell", "T cell", "no type"}
    assert np.sum(shown.types[:101] == "no type") == 20
    assert set(shown.transferred) == {"B cell", "T cell"}
    assert not shown.given
    real.obs["cell_type"] = np.nan
    assert (
        report._shown(cells, report.draw_pools(real, synthetic, seed=0, max_cells=2000), "cell_type", 0).types is None
    )
    assert evaluate(real, synthetic, repeats=1).no_utility == "under two cell types have enough real cells"
