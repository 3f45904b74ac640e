"""The comparison of layouts can say both: right, and misloaded."""

from loraudit.experiments.layout_table import layout_table, markdown


def test_every_layout_is_right_here_and_some_are_not_in_stock_diffusers() -> None:
    rows = {row.layout: row for row in layout_table()}
    assert {row.ours for row in rows.values()} == {"right"}
    # The control: what stock diffusers is known to read is right by the same measure.
    assert {rows[layout].diffusers for layout in ("D1", "D2", "D4", "K1", "K2")} == {"right"}
    assert rows["P1"].diffusers == "loads nothing, no error"
    assert rows["P2 unet"].diffusers.startswith("wrong update")
    assert markdown(list(rows.values())).count("| right |") >= len(rows)
