"""The file that measured rows are kept in."""

import json

import pytest

from scrdit_jax.benchmarking.store import ResultStore
from scrdit_jax.errors import OutputExists


def never():
    raise AssertionError("measured again")


def test_a_row_is_measured_once_and_is_on_the_disk(tmp_path):
    path = tmp_path / "new/rows.json"
    store = ResultStore(path, {"device": {"kind": "x"}})
    assert store.measured("a", lambda: {"score": (1, 2)}, made_by={"seed": 0}) == {
        "name": "a", "score": [1, 2], "made_by": {"seed": 0},
    }  # fmt: skip
    assert store.shared("limit", lambda: 3.5) == store.shared("limit", never) == 3.5
    with pytest.raises(ZeroDivisionError):
        store.measured("b", lambda: 1 / 0)
    again = ResultStore(path, {"device": {"kind": "x"}})
    assert "a" in again
    assert "b" not in again
    assert again.found("limit") == 3.5
    assert again.found("other") is None
    assert again.measured("a", never, made_by={"seed": 0})["score"] == [1, 2]
    again.measured("b", lambda: {"score": float("nan")})
    assert [row["name"] for row in ResultStore(path).rows] == ["a", "b"]
    again.arrange(["b"])
    assert [row["name"] for row in ResultStore(path).rows] == ["b", "a"]


def test_what_was_measured_otherwise_is_refused(tmp_path):
    path = tmp_path / "rows.json"
    store = ResultStore(path, {"settings": {"seeds": 2}})
    store.measured("a", lambda: {}, made_by={"steps": 5})
    with pytest.raises(OutputExists, match=r"other conditions \(settings.seeds 2, not 3\); choose another --out"):
        ResultStore(path, {"settings": {"seeds": 3}})
    with pytest.raises(OutputExists, match=r"'a' in .* is another one \(made_by.steps 5, not 6\)"):
        store.measured("a", never, made_by={"steps": 6})
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"schema": 9}))
    with pytest.raises(OutputExists, match="another version \\(schema 9, not 1\\)"):
        ResultStore(path)
    for text in ("[1]", "{", '{"schema": 1, "found": {}, "rows": [{}]}'):
        path.write_text(text)
        with pytest.raises(OutputExists, match="is no benchmark's"):
            ResultStore(path)
