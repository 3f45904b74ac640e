"""The table of what weights and words could tell of a file's kind."""

from benchmarks.tables.kinds_told import area


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    assert area([2.0, 3.0], [0.0, 1.0]) == 1.0
    assert area([0.0, 1.0], [2.0, 3.0]) == 0.0
    assert area([1.0, 1.0], [1.0]) == 0.5
    assert area([0.0, 2.0], [1.0]) == 0.5
