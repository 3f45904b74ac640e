"""Memory that is left: psutil's answer, or none where there is no psutil."""

import sys

import psutil

from loraudit.base.memory import available_memory


def test_memory_is_between_nothing_and_all() -> None:
    free = available_memory()
    assert free is not None
    assert 0 < free <= psutil.virtual_memory().total
    assert free > 2**20, "bytes, not kibibytes"


def test_memory_that_is_taken_is_not_left() -> None:
    # More than once, since other programs give some back meanwhile.
    for _ in range(5):
        before = available_memory()
        taken = bytearray(b"x") * 2**28
        after = available_memory()
        assert before is not None and after is not None
        if after < before - len(taken) // 2:
            break
    else:
        raise AssertionError("256 MiB were taken and are still said to be left")


def test_without_psutil_nothing_is_said(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert available_memory() is None
