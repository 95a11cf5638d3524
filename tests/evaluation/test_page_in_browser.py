"""The page as a browser shows it; skipped where there is none (Debian: apt-get install chromium chromium-driver)."""

import numpy as np
import pytest

from scrdit_jax.evaluation import plots, report
from scrdit_jax.evaluation.cells import ComparedCells
from tests.evaluation import browser

pytestmark = pytest.mark.skipif(not browser.is_there(), reason="needs chromium and chromedriver")
HOSTILE = "</script><img src=x onerror=window.hurt=1>&<b>T"
DOWN, TAB, SPACE = "\ue015", "\ue004", " "


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of cells whose types and genes have names that would be scripts; some cells are of another type."""
    from tests.evaluation.conftest import typed_cells

    real, synthetic = typed_cells(101, 0), typed_cells(140, 1)
    names = {"T cell": HOSTILE, "B cell": "B cell"}
    for cells in (real, synthetic):
        cells.obs["cell_type"] = cells.obs["cell_type"].map(names)
        cells.var_names = [f"G{j}" if j else f"{HOSTILE}{j}" for j in range(cells.n_vars)]
    synthetic.obs_names = [f"{HOSTILE}{i}" for i in range(synthetic.n_obs)]
    out = tmp_path_factory.mktemp("page") / "report"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "TSNE_ITERATIONS", 250)
        patch.setattr(report, "_pictures", lambda *_: {})
        report.evaluate(ComparedCells(held_out=real, synthetic=synthetic), out=out, repeats=1)
    return out / "report.html"


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with browser.Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def shown(window, page):
    """The page opened anew in a window of a desktop."""
    window.window(1280, 1000)
    window.open(page)
    yield window
    # Nothing was fetched, nothing refused by the page's own rule, and no name became code.
    assert window.errors() == []
    assert window.run("return [window.hurt, document.querySelectorAll('img, b').length]") == [None, 0]


def place(window, kind, row):
    """Where the window has the dot, scrolled to."""
    return window.run(f"""
        const data = JSON.parse(document.getElementById("data").textContent);
        const found = {{cells: "#cells", genes: "[data-panel]", bars: "[data-histogram]"}}["{kind}"];
        const svg = document.querySelector(found);
        const at = {{cells: data.cells, genes: data.genes.places[0], bars: data.histograms[0]}}["{kind}"];
        svg.scrollIntoView();
        const y = "{kind}" === "bars" ? 100 : at.y[{row}];
        const frame = () => new Promise(requestAnimationFrame);  // what scrolling sets off is over
        return frame().then(frame).then(() => {{
          const point = new DOMPoint(at.x[{row}], y).matrixTransform(svg.getScreenCTM());
          return [point.x, point.y];
        }});
    """)


def tip(window):
    return window.run("const t = document.getElementById('tip'); return t.hidden ? null : t.textContent")


def data(window, path):
    return window.run(f"return JSON.parse(document.getElementById('data').textContent).{path}")


def test_a_cell_a_gene_and_a_bar_say_what_they_are(shown):
    side, kinds, types = (data(shown, name) for name in ("cells.side", "cells.type", "types"))
    assert set(types) == {HOSTILE, "B cell"}
    x, y = np.array(data(shown, "cells.x")), np.array(data(shown, "cells.y"))
    row = next(
        i for i in range(len(x))
        if side[i] == 1 and np.sort(np.hypot(x - x[i], y - y[i]))[1] > 5
    )  # fmt: skip
    shown.point(*place(shown, "cells", row))
    lines = tip(shown).split("\n")
    assert lines[0].startswith(HOSTILE)
    assert lines[1:3] == ["synthetic", types[kinds[row]]]
    assert lines[-1].endswith(" genes detected")
    gene = int(np.argmax(data(shown, "genes.means")[0]))
    shown.point(*place(shown, "genes", gene))
    assert tip(shown).split("\n")[0] == data(shown, "genes.names")[gene]
    assert "mean: real" in tip(shown)
    shown.point(*place(shown, "bars", 3))
    assert "% of cells" in tip(shown)
    shown.point(5, 5)
    assert tip(shown) is None


def test_types_and_sides_are_toggled_and_coloured(shown):
    def seen():
        return shown.run(
            "return [...document.querySelectorAll('#cells path')].filter(p => getComputedStyle(p).display !== 'none')"
            ".map(p => p.dataset.side + p.dataset.type)"
        )

    assert set(seen()) == {"00", "01", "10", "11"}
    shown.click("input[name=type][value='1']")
    assert set(seen()) == {"00", "10"}
    shown.click("input[name=side][value='0']")
    assert set(seen()) == {"10"}
    hidden = data(shown, "cells.type").index(1)
    shown.point(*place(shown, "cells", hidden))
    assert tip(shown) is None or data(shown, "types")[1] not in tip(shown)
    shown.click("#controls button[value=none]")
    assert seen() == []
    shown.click("#controls button[value=all]")
    assert set(seen()) == {"10", "11"}
    strokes = "return [...document.querySelectorAll('#cells path')].map(p => getComputedStyle(p).stroke)"
    of_sides = set(shown.run(strokes))
    shown.click("input[value=type]")
    of_types = set(shown.run(strokes))
    assert len(of_sides) == len(of_types) == 2
    assert not of_sides & of_types


def test_keys_reach_the_toggles_and_go_from_dot_to_dot(shown):
    shown.run("[...document.querySelectorAll('nav a')].pop().focus()")
    reached = []
    for _ in range(12):
        shown.press(TAB)
        reached.append(shown.run("const e = document.activeElement; return e.id || e.name || e.value || e.tagName"))
    assert {"cells", "colour", "side", "type", "gene", "mark", "all", "none"} <= set(reached)
    shown.run("document.querySelector('input[name=type]').focus()")
    shown.press(SPACE)
    assert shown.run("return document.querySelector('input[name=type]').checked") is False
    shown.run("document.getElementById('cells').focus()")
    shown.press(DOWN)
    first = shown.run("return document.getElementById('cell-readout').textContent")
    shown.press(DOWN)
    assert first
    assert first != shown.run("return document.getElementById('cell-readout').textContent")


def test_a_gene_is_found_by_name_and_markers_are_marked(shown):
    shown.run("document.getElementById('gene').focus()")
    shown.press(*"g7")
    assert shown.run("return document.getElementById('gene-readout').textContent").startswith("G7; mean: real")
    assert shown.run("return document.querySelectorAll('[data-panel] .ring.on').length") == 2
    shown.press("x")
    assert "no gene of that name" in shown.run("return document.getElementById('gene-readout').textContent")
    shown.run("const m = document.getElementById('mark'); m.value = '0'; m.dispatchEvent(new Event('change'))")
    marked = shown.run(
        "return [...document.querySelectorAll('.marked')].map(p => p.getAttribute('d').split('M').length)"
    )
    assert marked == [21, 21]


def test_light_and_dark_follow_the_system_until_the_button_is_used(window, page):
    paper = "return getComputedStyle(document.body).backgroundColor"
    found = {}
    for scheme in ("light", "dark"):
        window.window(1280, 900, scheme=scheme)
        window.open(page)
        before = window.run(paper)
        window.click("#theme")
        found[scheme] = before, window.run(paper)
    assert found["light"] == found["dark"][::-1]
    assert found["light"][0] == "rgb(255, 255, 255)" != found["light"][1]
    window.devtools("Emulation.setEmulatedMedia", media="print", features=[])
    assert window.run(paper) == "rgb(255, 255, 255)"
    window.devtools("Emulation.setEmulatedMedia", media="")
    assert window.printed().startswith(b"%PDF")


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(window, page, width):
    window.window(width, 844, mobile=width < 500)
    window.open(page)
    assert window.run("return document.documentElement.scrollWidth") <= width
    assert window.run(
        "return [...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1"
        " && !e.closest('.wide') && !e.closest('.away') && !e.closest('svg')).map(e => e.className)"
    ) == []  # fmt: skip
    # The text of the pictures can be read on a phone.
    sizes = window.run("return [...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)")
    assert min(sizes) >= 10


def test_pictures_and_controls_have_names(shown):
    unnamed = shown.run("""
        const named = (e) => e.textContent.trim() || e.getAttribute("aria-label") || e.closest("label")
          || document.getElementById((e.getAttribute("aria-labelledby") || "").split(" ")[0]);
        return [...document.querySelectorAll("button, input, select, svg, nav")].filter((e) => !named(e)).length
    """)
    assert unnamed == 0
    assert shown.run("return document.title") == "Synthetic cells beside real ones"
    assert shown.run(
        "return [...document.querySelectorAll('a[href^=\"#\"]')].every(a => document.querySelector(a.hash))"
    )
