"""Memory that is left: psutil's answer, or none where there is no psutil."""

import sys

import psutil

from loraudit.base.memory import available_memory, free_memory


def test_memory_is_between_nothing_and_all() -> None:
    free = available_memory()
    assert free is not None
    assert 0 < free <= psutil.virtual_memory().total
    assert free > 2**20, "bytes, not kibibytes"


def test_on_a_gpu_what_torch_keeps_for_itself_is_free_as_well(monkeypatch) -> None:
    import torch

    told = {"mem_get_info": (5, 16), "memory_reserved": 4, "memory_allocated": 1}
    for name, value in told.items():
        monkeypatch.setattr(torch.cuda, name, lambda _device, value=value: value)
    assert free_memory(torch.device("cuda")) == 5 + 4 - 1
    here, free = available_memory(), free_memory(torch.device("cpu"))
    assert here is not None and free is not None and abs(here - free) < 2**30


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
