"""People a pass of a zoo: by memory, written down, and halved where the count was wrong."""

from dataclasses import replace

import pytest
import torch

from loraudit.errors import Incomplete
from loraudit.training import people_a_pass as counting
from loraudit.training import zoo as zoos
from loraudit.training.finetune import Recipe, finetune
from loraudit.training.people_a_pass import MOST, kept_bytes, people_a_pass, people_for
from loraudit.training.zoo import build_zoo, open_zoo
from loraudit.training.zoo_plan import Plan, read_plan
from tests.tiny import tiny_base

RECIPE = Recipe(rank=2, lr=1e-2, steps=2, class_images=2)
PLAN = Plan((0, 4, 8, 12), RECIPE, (2,), people_per_pass=4)
GIB = 2**30


def prior() -> torch.Tensor:
    return torch.randn(4, *tiny_base().latent_shape, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize(
    ("free", "people"),
    [(None, MOST), (0, 1), (4 * GIB, 1), (11 * GIB, 2), (19 * GIB, 4), (75 * GIB, 17), (1000 * GIB, MOST)],
)
def test_people_by_memory(free: int | None, people: int) -> None:
    """At SD 1.x's 2.6 GiB a person; 12, 16, 24 and 80 GiB less the weights are free."""
    assert people_for(free, int(2.6 * GIB)) == people


def test_what_a_person_keeps_is_counted_on_the_base() -> None:
    one = kept_bytes(tiny_base(), RECIPE)
    alone = kept_bytes(tiny_base(), replace(RECIPE, prior_weight=0.0))
    assert 1.6 * alone < one < 2 * alone, "a class picture beside each picture"
    assert kept_bytes(tiny_base(), replace(RECIPE, batch=4)) > 3 * one
    assert kept_bytes(tiny_base(), replace(RECIPE, text_targets=())) < one
    assert all(weight.grad is None for weight in tiny_base().unet.parameters())


def test_the_plan_is_written_down_and_holds_on_a_resume(monkeypatch, tmp_path) -> None:
    each = kept_bytes(tiny_base(), RECIPE)
    monkeypatch.setattr(counting, "free_memory", lambda _device: int(2.5 * each / 0.6))
    together = people_a_pass(tiny_base(), RECIPE)
    assert together == 2
    build_zoo(tiny_base(), tmp_path, replace(PLAN, people_per_pass=together), prior())
    assert read_plan(tmp_path)[0].people_per_pass == 2
    assert sorted(file.name for file in tmp_path.glob("pass-*")) == [
        "pass-0000.safetensors",
        "pass-0001.safetensors",
    ]


class Short:
    """A machine with memory for `most` people a pass, from pass `since` on."""

    def __init__(self, most: int, since: int = 0) -> None:
        self.most, self.since, self.passes = most, since, list[int]()

    def __call__(self, base, subjects, recipe, class_latents):
        self.passes.append(len(subjects))
        for number, found in enumerate(finetune(base, subjects, recipe, class_latents)):
            if len(self.passes) > self.since and len(subjects) > self.most and number:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
            yield found


def test_a_first_pass_without_room_is_halved_and_so_is_the_plan(monkeypatch, tmp_path) -> None:
    short = Short(1)
    monkeypatch.setattr(zoos, "finetune", short)
    made = build_zoo(tiny_base(), tmp_path / "short", PLAN, prior())
    assert short.passes == [4, 2, 1, 1, 1, 1] and made.plan.people_per_pass == 1
    monkeypatch.undo()
    build_zoo(tiny_base(), tmp_path / "ample", replace(PLAN, people_per_pass=1), prior())
    assert open_zoo(tmp_path / "short").plan == made.plan
    for file in (tmp_path / "ample").iterdir():
        assert file.read_bytes() == (tmp_path / "short" / file.name).read_bytes()


def test_a_later_pass_without_room_is_said_and_goes_on(monkeypatch, tmp_path) -> None:
    plan = replace(PLAN, people_per_pass=2)
    monkeypatch.setattr(zoos, "finetune", Short(1, since=1))
    with pytest.raises(Incomplete, match="to fine-tune 2 LoRAs at once"):
        build_zoo(tiny_base(), tmp_path, plan, prior())
    assert read_plan(tmp_path)[0] == plan and (tmp_path / "pass-0000.safetensors").is_file()
    monkeypatch.undo()
    assert build_zoo(tiny_base(), tmp_path, plan, prior()).plan == plan


def test_a_person_without_room_and_other_errors_end_it(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(zoos, "finetune", Short(0))
    with pytest.raises(Incomplete, match="to fine-tune a LoRA"):
        build_zoo(tiny_base(), tmp_path / "one", replace(PLAN, people=(0,)), prior())

    def broken(*_arguments):
        raise RuntimeError("size mismatch")

    monkeypatch.setattr(zoos, "finetune", broken)
    with pytest.raises(RuntimeError, match="size mismatch"):
        build_zoo(tiny_base(), tmp_path / "broken", PLAN, prior())
