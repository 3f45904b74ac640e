"""Memory that is left, psutil's answer or none where there is no psutil, and the memory that a base needs."""

import sys

import psutil
import pytest
import torch

from loraudit.base import load, memory
from loraudit.base.memory import available_memory, free_memory, require_memory
from loraudit.errors import Incomplete


def test_memory_is_between_nothing_and_all() -> None:
    free = available_memory()
    assert free is not None
    assert 0 < free <= psutil.virtual_memory().total
    assert free > 2**20, "bytes, not kibibytes"


def test_on_a_gpu_what_torch_keeps_for_itself_is_free_as_well(monkeypatch) -> None:
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


def test_memory_of_the_machine_and_of_the_gpu(monkeypatch) -> None:
    """Weights and a fifth more, each where they are held; a CPU's load asks no GPU."""
    free = {"memory": 1200, "GPU memory": 600}
    monkeypatch.setattr(memory, "available_memory", lambda: free["memory"])
    monkeypatch.setattr(memory, "free_memory", lambda _device: free["GPU memory"])
    require_memory(1000, "cpu", 1000)
    require_memory(1000, "cuda", 500)
    for weights, device, on_device, kind in (
        (1001, "cpu", 1, "memory"), (1001, "cuda", 1, "memory"), (1000, "cuda", 501, "GPU memory"),
    ):  # fmt: skip
        with pytest.raises(Incomplete, match=rf"needs about 0\.0 GiB of {kind} and 0\.0 GiB are free"):
            require_memory(weights, device, on_device)
    free.update({"memory": None, "GPU memory": None})
    require_memory(10**15, "cuda", 10**15)


def test_a_gpu_that_is_not_there_says_nothing() -> None:
    if not torch.cuda.is_available():
        assert free_memory(torch.device("cuda")) is None


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_what_a_base_needs_goes_by_its_type(dtype: str, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(load, "require_memory", lambda *sizes: asked.append(sizes))
    size = getattr(torch, dtype).itemsize
    # bfloat16 is rounded from float32, once the fingerprint is taken.
    stored = {"float32": 4, "float16": 2, "bfloat16": 4}[dtype]
    load._require(
        1000, getattr(torch, "float32" if stored == 4 else "float16"), getattr(torch, dtype), "cuda"
    )
    assert asked == [(1000 * stored, "cuda", 1000 * size)]
