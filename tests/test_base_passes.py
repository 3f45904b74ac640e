"""Passes through a base: their size by memory, halved where that was wrong, and the same results."""

from collections.abc import Callable, Sequence

import pytest
import torch

from loraudit.attacks import plan as planning
from loraudit.attacks.aim import Aim
from loraudit.attacks.plan import Plan
from loraudit.base import passes
from loraudit.base.model import Sampling
from loraudit.base.passes import GUIDED, Pass, pictures_a_pass
from tests.audits import random_lora
from tests.tiny import tiny_base

SD, TINY = (4, 64, 64), (4, 8, 8)
CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def squares(
    most: int, error: Callable[[], Exception], seen: list[int]
) -> Callable[[Sequence[int]], torch.Tensor]:
    """A pass that finds memory for `most` samples only."""

    def run(part: Sequence[int]) -> torch.Tensor:
        seen.append(len(part))
        if len(part) > most:
            raise error()
        return torch.tensor([one**2 for one in part])

    return run


@pytest.mark.parametrize(
    "error",
    [
        lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
        lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError,
    ],
)
def test_a_pass_that_is_too_large_is_halved_and_the_result_is_the_same(error) -> None:
    seen: list[int] = []
    size = Pass(16)
    found = size.over(range(19), squares(5, error, seen))
    assert found.tolist() == [one**2 for one in range(19)]
    assert seen == [16, 8, 4, 4, 4, 4, 3] and size.samples == 4
    seen.clear()
    # The next call does not try what failed.
    assert size.over((7, 3), squares(5, error, seen)).tolist() == [49, 9] and seen == [2]


def test_one_sample_that_finds_no_memory_and_other_errors_pass() -> None:
    for error in (MemoryError, lambda: torch.OutOfMemoryError("CUDA out of memory")):
        size, seen = Pass(4), list[int]()
        with pytest.raises((MemoryError, torch.OutOfMemoryError)):
            size.over(range(4), squares(0, error, seen))
        assert seen == [4, 2, 1]
    size, seen = Pass(4), []
    with pytest.raises(RuntimeError, match="size mismatch"):
        size.over(range(4), squares(0, lambda: RuntimeError("size mismatch"), seen))
    assert seen == [4] and size.samples == 4


def test_what_a_failed_pass_held_is_freed_before_the_next() -> None:
    """The tensors of the failed pass hang on its error, which must be gone."""
    import weakref

    held: list[weakref.ref[torch.Tensor]] = []

    def run(part: Sequence[int]) -> torch.Tensor:
        assert all(one() is None for one in held)
        tensor = torch.zeros(len(part))
        held.append(weakref.ref(tensor))
        if len(part) > 1:
            raise MemoryError
        return torch.zeros(len(part))

    assert len(Pass(4).over(range(4), run)) == 4 and len(held) == 6


GIB = 2**30


@pytest.mark.parametrize(
    ("free", "dtype", "pictures"),
    [
        (None, torch.float16, 8),
        (80 * GIB, torch.float16, 8),
        (1 * GIB, torch.float16, 3),
        (1 * GIB, torch.float32, 1),
        (0, torch.float16, 1),
    ],
)
def test_pictures_a_pass_go_by_free_memory(monkeypatch, free, dtype, pictures) -> None:
    monkeypatch.setattr(passes, "free_memory", lambda _device: free)
    assert pictures_a_pass(SD, CUDA, dtype) == pictures
    assert pictures_a_pass((4, 128, 128), CUDA, dtype) <= max(1, pictures // 4)
    # A CPU takes no more than keeps it busy.
    assert (pictures_a_pass(SD, CPU, dtype), pictures_a_pass(TINY, CPU, dtype)) == (1, 16)
    assert pictures_a_pass(TINY, CUDA, dtype) <= GUIDED // 64


def test_a_scan_goes_on_in_smaller_passes(monkeypatch) -> None:
    base, lora = tiny_base(), random_lora()
    noise = torch.Generator().manual_seed(1)
    aims = [Aim(name, torch.randn(base.embedding_shape, generator=noise)) for name in "ab"]
    plan = Plan(tuple(range(6)), Sampling(2, 2.0))
    whole = list(plan.reconstruct(lora, base, aims, lambda *_: None))
    real, tried = planning.draw, list[int]()

    def short_of_memory(tuned, plain, embedding, seeds, *more):
        tried.append(len(seeds))
        if len(seeds) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(tuned, plain, embedding, seeds, *more)

    monkeypatch.setattr(planning, "draw", short_of_memory)
    steps: list[tuple[int, int]] = []
    halved = list(plan.reconstruct(lora, base, aims, lambda done, total, _: steps.append((done, total))))
    assert tried[:2] == [6, 3] and set(tried[2:]) <= {1, 2}
    for one, other in zip(whole, halved, strict=True):
        for name in ("tuned", "base", "scrambled"):
            assert torch.allclose(getattr(one, name), getattr(other, name), atol=1e-4)
    assert steps == sorted(steps) and steps[-1] == (36, 36)


def test_photos_are_encoded_a_few_at_a_time(monkeypatch) -> None:
    """The encoder's activations are as large as the decoder's: twenty photos of 512 pixels took 7 GiB."""
    base, seen = tiny_base(), list[int]()
    photos = torch.rand(7, 3, base.image_size, base.image_size, generator=torch.Generator().manual_seed(0))
    whole = base.encode_images(photos)
    encode = base.vae.encode

    def counted(pixels: torch.Tensor):
        seen.append(len(pixels))
        return encode(pixels)

    monkeypatch.setattr(base.vae, "encode", counted)
    monkeypatch.setattr("loraudit.base.model.DECODED", 3 * 16)
    torch.testing.assert_close(base.encode_images(photos), whole)
    assert seen == [3, 3, 1]
