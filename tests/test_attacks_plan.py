"""The loop that makes the pictures."""

import dataclasses
from itertools import pairwise

import pytest
import torch

from loraudit.attacks.aim import Aim, Reconstruction
from loraudit.attacks.controls import as_strong, effort
from loraudit.attacks.kept import KeptPictures
from loraudit.attacks.plan import COPIES, Plan, plan_for
from loraudit.base.lowrank import stack
from loraudit.base.model import Sampling
from loraudit.cards import base_card
from loraudit.errors import NotScannable
from loraudit.lora import write_diffusers, write_kohya, write_peft
from loraudit.scores.scorers import Scorers
from tests.audits import ColourFace, random_factors, random_lora
from tests.tiny import tiny_base

PLAN = Plan((3, 4, 5), Sampling(3, 2.0))
LONG = Plan(tuple(range(14)), Sampling(1, 2.0))


def pictures(plan, lora, base, aims, on_step=lambda _done, _total, _stage: None):
    return list(plan.reconstruct(lora, base, aims, on_step))


@pytest.fixture
def aims():
    noise = torch.Generator().manual_seed(1)
    return [Aim(name, torch.randn(tiny_base().embedding_shape, generator=noise)) for name in ("a", "b")]


def test_a_picture_does_not_depend_on_its_batch(aims, monkeypatch) -> None:
    base, lora = tiny_base(), random_lora()
    together = pictures(PLAN, lora, base, aims)
    alone = pictures(dataclasses.replace(PLAN, seeds=(4,)), lora, base, aims[1:])
    assert torch.allclose(alone[0].tuned[0], together[1].tuned[1], atol=1e-4)
    assert torch.allclose(alone[0].base[0], together[1].base[1], atol=1e-4)
    monkeypatch.setattr(Plan, "pictures_a_pass", staticmethod(lambda _base: 2))
    assert len(together) == len(aims)
    for whole, split in zip(together, pictures(PLAN, lora, base, aims), strict=True):
        assert torch.allclose(whole.tuned, split.tuned, atol=1e-4)
        assert torch.allclose(whole.base, split.base, atol=1e-4)
    assert not torch.allclose(together[0].tuned, together[1].tuned, atol=1e-3)
    assert not torch.allclose(together[0].tuned[0], together[0].tuned[1], atol=1e-3)


def test_the_control_is_the_base_under_the_same_embedding_and_seeds(aims) -> None:
    base = tiny_base()
    (found, _) = pictures(PLAN, random_lora(), base, aims)
    expected = base.sample(aims[0].embedding[None], PLAN.seeds, PLAN.sampling)
    assert torch.allclose(found.base, expected, atol=1e-5)
    assert not torch.allclose(found.tuned, expected, atol=1e-3)
    assert (found.aim, found.seeds) == (aims[0], PLAN.seeds)


def test_the_other_control_is_a_scrambled_copy_as_strong_as_the_lora(aims) -> None:
    base, lora = tiny_base(), random_lora()
    (found, _) = pictures(PLAN, lora, base, aims)
    embedding, seed = aims[0].embedding[None], PLAN.seeds[0]
    copy = as_strong(stack([lora]), seed, base, embedding, found.base[None])
    expected = base.with_lora(copy.terms).sample(embedding, PLAN.seeds, PLAN.sampling)
    assert torch.allclose(found.scrambled, expected, atol=1e-4)
    for other in (found.tuned, found.base):
        assert not torch.allclose(other, expected, atol=1e-3)
    assert (found.others, found.weaker, found.matching) == ((), False, effort(3))


def test_there_may_be_several_copies_each_the_same_at_every_look(aims) -> None:
    base, lora = tiny_base(), random_lora()
    three = dataclasses.replace(LONG, copies=3)
    (whole,) = pictures(three, lora, base, aims[:1])
    assert [len(one) for one in whole.copies] == [8, 8, 8] and len(whole.others) == 2
    assert whole.drawn == 2 * 14 + 3 * 8 and whole.matching == 3 * effort(8)
    for one, other in pairwise(whole.copies):
        assert not torch.allclose(one, other, atol=1e-3)
    (single,) = pictures(LONG, lora, base, aims[:1])
    assert torch.equal(single.scrambled[:8], whole.scrambled) and single.others == ()
    at_once = dataclasses.replace(three, sequential=False)
    (same,) = list(at_once.reconstruct(lora, base, aims[:1], lambda *_: None))
    for one, other in zip(whole.copies, same.copies, strict=True):
        assert torch.allclose(one, other, atol=1e-4)
    assert three.most(aims[:1]) == (2 * 14 + 3 * 8) * 2 + 3 * effort(8)
    steps: list[tuple[int, int, str]] = []
    list(three.reconstruct(lora, base, aims[:1], lambda *s: steps.append(s)))
    assert steps[-1][:2] == (2 * 14 + 3 * 8,) * 2


def test_there_are_several_copies_where_no_calibration_ships() -> None:
    assert [plan_for(base_card(name), 16, None, 0).copies for name in ("tiny", "sd15")] == [1, COPIES]
    assert plan_for(base_card("sd15"), 8, None, 0, controls=5).copies == 1


def test_the_copy_whose_faces_agree_most_is_judged(aims) -> None:
    tuned, mixed = torch.ones(4, 3, 2, 2), torch.eye(3)[[0, 1, 2, 0]][:, :, None, None].expand(-1, -1, 2, 2)
    alike = torch.eye(3)[[1, 1, 1, 1]][:, :, None, None].expand(-1, -1, 2, 2)
    found = Reconstruction(aims[0], (0, 1, 2, 3), tuned, mixed, mixed, (alike, mixed))
    scorers = Scorers(ColourFace())
    assert torch.equal(found.ranked(scorers).scrambled, alike)
    judged = found.weighed(scorers).scrambled
    assert judged is not None and set(judged.pairs) == {1.0}
    # The negative control: alone, the first copy is judged.
    only = dataclasses.replace(found, others=()).weighed(scorers).scrambled
    assert only is not None and sum(pair > 0.9 for pair in only.pairs) == 1


def test_an_aim_stops_when_it_is_settled_and_a_scan_when_it_has_enough(aims) -> None:
    base, lora, seen = tiny_base(), random_lora(), []

    def settled(found) -> bool:
        seen.append((found.aim.attack, len(found.seeds)))
        return found.aim.attack == "b"

    whole = list(LONG.reconstruct(lora, base, aims, lambda *_: None, settled=settled))
    assert seen == [("a", 8), ("a", 12), ("b", 8)]
    assert [len(found.seeds) for found in whole] == [14, 8]
    assert [len(found.scrambled) for found in whole] == [14, 8]
    steps: list[tuple[int, int, str]] = []
    list(LONG.reconstruct(lora, base, aims, lambda *s: steps.append(s), settled=settled))
    # What is not needed leaves the total: the count never jumps by more than a batch.
    assert steps[-1][:2] == (42 + 24, 42 + 24)
    assert {total for _, total, _ in steps} == {84, 66}
    assert [stage for _, _, stage in steps] == sorted(stage for _, _, stage in steps)
    assert max(after - before for (before, *_), (after, *_) in pairwise(steps)) <= 14
    steps.clear()
    short = list(LONG.reconstruct(lora, base, aims, lambda *s: steps.append(s), enough=lambda: True))
    assert [found.aim.attack for found in short] == ["a"]
    assert torch.equal(short[0].tuned, whole[0].tuned)
    assert steps[-1][:2] == (42, 42) and [done for done, *_ in steps] == sorted(done for done, *_ in steps)
    assert {stage for _, _, stage in steps} == {"attack a"}
    fixed = dataclasses.replace(LONG, sequential=False)
    asked = [lambda _: False, lambda _: True, lambda: True]
    both = list(fixed.reconstruct(lora, base, aims, lambda *_: None, *asked))
    assert [len(found.seeds) for found in both] == [14, 14]
    assert [len(found.base) for found in both] == [14, 14]


def test_the_strongest_attack_goes_first() -> None:
    given = [Aim(name, torch.zeros(1)) for name in ("prompts:class", "paper", "guidance:class", "encoder")]
    ordered = [aim.attack for aim in PLAN.in_order(given)]
    assert ordered == ["encoder", "guidance:class", "paper", "prompts:class"]
    assert LONG.evaluations(10) == 10 * 1 * 2
    assert dataclasses.replace(LONG, sampling=Sampling(5, 1.0)).evaluations(10) == 10 * 5


def test_aims_of_one_embedding_share_the_pictures_of_the_base(aims) -> None:
    base, lora = tiny_base(), random_lora()
    usual = dataclasses.replace(aims[0], attack="usual")
    guided = dataclasses.replace(aims[0], attack="guided", against_base=True)
    stops = {"guided": 8}

    def settled(found) -> bool:
        return len(found.seeds) >= stops.get(found.aim.attack, 14)

    asked = [guided, aims[1], usual]
    both = list(LONG.reconstruct(lora, base, asked, lambda *_: None, settled=settled))
    assert [(len(found.seeds), found.shared) for found in both] == [(8, 0), (14, 0), (14, 8)]
    assert [found.drawn for found in both] == [3 * 8, 3 * 14, 3 * 14 - 8]
    alone = pictures(LONG, lora, base, [usual])[0]
    for name in ("tuned", "base", "scrambled"):
        assert torch.allclose(getattr(both[2], name), getattr(alone, name), atol=1e-4)
    assert torch.equal(both[2].base[:8], both[0].base)
    assert not torch.allclose(both[2].tuned[:8], both[0].tuned, atol=1e-3)
    assert LONG.most(asked) == (3 * 3 * 14 - 14) * 1 * 2 + 3 * effort(8)


def test_controls_are_drawn_where_the_pictures_ask_for_them(aims) -> None:
    base, lora, told = tiny_base(), random_lora(), []

    def asks(found) -> bool:
        told.append((found.aim.attack, len(found.tuned), len(found.base)))
        return (found.aim.attack, len(found.tuned)) == ("b", 12)

    steps: list[tuple[int, int, str]] = []
    without, late = LONG.reconstruct(lora, base, aims, lambda *s: steps.append(s), asks)
    assert told == [("a", 8, 0), ("a", 12, 0), ("a", 14, 0), ("b", 8, 0), ("b", 12, 0), ("b", 14, 12)]
    assert [len(without.tuned), len(without.base), len(without.scrambled), without.drawn] == [14, 0, 0, 14]
    assert [len(late.tuned), len(late.base), len(late.scrambled), late.drawn] == [14, 12, 12, 38]
    whole = pictures(LONG, lora, base, aims)[1]
    for name in ("tuned", "base", "scrambled"):
        made = getattr(late, name)
        assert torch.allclose(made, getattr(whole, name)[: len(made)], atol=1e-4)
    assert steps[-1][:2] == (14 + 38, 14 + 38)
    assert [done for done, *_ in steps] == sorted(done for done, *_ in steps)


def test_controls_may_be_few_and_for_one_aim(aims) -> None:
    """A quick scan: controls for the first aim that asks, and then no further aim."""
    base, lora = tiny_base(), random_lora()
    three = [*aims, dataclasses.replace(aims[0], attack="c")]
    quick = dataclasses.replace(PLAN, controls=2)
    steps: list[tuple[int, int, str]] = []
    first = list(quick.reconstruct(lora, base, three, lambda *s: steps.append(s)))
    assert [(one.aim.attack, one.drawn, len(one.base)) for one in first] == [("a", 7, 2)]
    assert steps[-1][:2] == (7, 7)
    second = quick.reconstruct(lora, base, three, lambda *_: None, lambda found: found.aim.attack == "b")
    assert [(one.aim.attack, one.drawn) for one in second] == [("a", 3), ("b", 7)]
    assert quick.most(three) == (3 * 3 + 2 * 2) * 3 * 2 + effort(2)
    assert dataclasses.replace(quick, controls=9).most(three[:1]) == PLAN.most(three[:1])
    assert PLAN.most_pictures([1, 2, 1]) == (3 + 2 + 3) * 3
    assert quick.most([]) == PLAN.most([]) == 0
    whole = pictures(PLAN, lora, base, aims)
    assert torch.allclose(first[0].base, whole[0].base[:2], atol=1e-4)


def test_the_next_file_takes_the_pictures_of_the_base_that_are_kept(aims) -> None:
    base, kept = tiny_base(), KeptPictures()
    loras = [random_lora(seed=seed) for seed in (0, 1)]
    passes: list[list[int]] = []
    for lora in loras:
        passes.append([])
        found = list(PLAN.reconstruct(lora, base, aims, lambda n, *_: passes[-1].append(n), kept=kept))
        # A report does not depend on the files before.
        assert [(one.shared, one.drawn) for one in found] == [(0, 9), (0, 9)]
        alone = pictures(PLAN, lora, base, aims)
        for one, other in zip(found, alone, strict=True):
            assert torch.equal(one.base, other.base) and torch.equal(one.tuned, other.tuned)
    # Three passes and a last word for each aim, the second time without the base's pass.
    assert [len(told) for told in passes] == [8, 6]


def test_half_strength_is_half_the_update(aims) -> None:
    base, lora = tiny_base(), random_lora()
    half = dataclasses.replace(aims[0], strength=0.5)
    full, found = pictures(PLAN, lora, base, [aims[0], half])
    halved = dataclasses.replace(
        lora, factors={site: dataclasses.replace(f, up=0.5 * f.up) for site, f in lora.factors.items()}
    )
    (expected,) = pictures(PLAN, halved, base, [aims[0]])
    for name in ("tuned", "base", "scrambled"):
        assert torch.allclose(getattr(found, name), getattr(expected, name), atol=1e-4)
    assert torch.equal(found.base, full.base) and found.shared == 3
    assert not torch.allclose(found.tuned, full.tuned, atol=1e-3)


def test_a_lora_for_another_base_is_refused(aims) -> None:
    lora = random_lora()
    wrong = {site.replace("down_blocks.0", "down_blocks.7"): pair for site, pair in lora.factors.items()}
    with pytest.raises(NotScannable, match="does not fit this base"):
        pictures(PLAN, dataclasses.replace(lora, factors=wrong), tiny_base(), aims)


def test_progress_goes_from_nothing_to_all(aims, monkeypatch) -> None:
    monkeypatch.setattr(Plan, "pictures_a_pass", staticmethod(lambda _base: 2))
    steps: list[tuple[int, int]] = []
    pictures(PLAN, random_lora(), tiny_base(), aims, lambda done, total, _: steps.append((done, total)))
    assert (steps[0], steps[-1]) == ((0, 18), (18, 18))
    assert steps == sorted(steps)


def test_the_budget_in_words() -> None:
    assert plan_for(tiny_base().card, 4, 20, 7) == Plan((7, 8, 9, 10), Sampling(20, 3.0), copies=COPIES)
    assert plan_for(tiny_base().card, 4, 20, 7).budget == "at most 4 samples, 20 steps, guidance 3"


def test_three_layouts_of_one_lora_give_the_same_pictures(tmp_path) -> None:
    from loraudit.attacks.prompts import PromptsAttack
    from loraudit.base.load import load_base
    from loraudit.lora import load_lora

    base = load_base("tiny")
    factors = random_factors(base)
    found = []
    for write in (write_diffusers, write_kohya, write_peft):
        write(factors, tmp_path / write.__name__)
        lora = load_lora(tmp_path / write.__name__)
        plan = Plan((0, 1), Sampling(2, 3.0))
        found.append(pictures(plan, lora, base, PromptsAttack().aims(lora, base)))
    assert len(found) == 3 and found[0]
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert torch.allclose(one.tuned, two.tuned, atol=1e-4)
            assert torch.allclose(one.base, two.base, atol=1e-4)
