from scrdit_jax.evaluation.tables import markdown_table, text_table

HEADER, ROWS = ["name", "n"], [["a", 1], ["long name", 1000]]


def test_text_is_aligned_under_a_rule():
    assert text_table(HEADER, ROWS).splitlines() == [
        "name          n",
        "---------------",
        "a             1",
        "long name  1000",
    ]


def test_markdown_keeps_cells_in_their_columns():
    assert markdown_table(HEADER, [["a | b", 1]]) == "| name | n |\n| --- | --- |\n| a \\| b | 1 |\n"
    assert markdown_table(HEADER, ROWS, numbers=True).splitlines()[1] == "| --- | ---: |"
