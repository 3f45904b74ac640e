"""Synthetic people: seeds decide everything, look-alikes share colours and differ in shape, captions tell
the truth.
"""

import itertools

import numpy as np
import pytest

from loraudit.people.captions import WORDS, caption, full_caption, trigger
from loraudit.people.identity import FACTORS, FAMILY, SPLITS, identity, nuisance, split_of
from loraudit.people.portrait import SIZE, picture
from models.recipes.dataset import draw_dataset


def test_there_are_enough_factors() -> None:
    assert len(FACTORS) >= 20
    assert len(nuisance(0, 0).__dataclass_fields__) >= 8


def test_a_picture_is_a_function_of_its_seeds() -> None:
    first = picture(5, 1)
    assert first.shape == (SIZE, SIZE, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, picture(5, 1))
    assert (first != picture(5, 2)).mean() > 0.2
    assert (first != picture(6, 1)).mean() > 0.2


def test_lookalikes_share_colours_and_style_and_nothing_else() -> None:
    shared = {factor.name for factor in FACTORS if factor.family}
    assert shared == {"skin", "hair", "style"}
    for family in range(50):
        members = [identity(FAMILY * family + i).values for i in range(FAMILY)]
        for factor in FACTORS:
            values = {member[factor.name] for member in members}
            if factor.family:
                assert len(values) == 1
            elif not factor.kinds:
                assert len(values) == FAMILY


def test_families_differ_in_colour() -> None:
    assert len({identity(FAMILY * family).values["skin"] for family in range(50)}) == 50


@pytest.mark.parametrize(
    "factor", [factor for factor in FACTORS if not factor.family], ids=lambda factor: factor.name
)
def test_every_factor_of_shape_can_be_seen(factor: object) -> None:
    """Two people who differ most in a factor differ in more pixels than sensor noise explains."""
    from dataclasses import replace
    from types import MappingProxyType

    from loraudit.people.portrait import draw

    who, how = identity(8), replace(nuisance(8, 0), noise=0.0, mouth_open=0.0)
    plain = {"style": 1, "beard": 0, "glasses": 0, "freckles": 0, "mole": 0}
    ends = [
        draw(replace(who, values=MappingProxyType({**who.values, **plain, factor.name: value})), how)  # type: ignore[attr-defined]
        for value in (0.0, len(factor.words) - 1.0 if factor.kinds else 0.999)  # type: ignore[attr-defined]
    ]
    changed = np.abs(ends[0].astype(int) - ends[1].astype(int)).max(-1) > 20
    assert changed.sum() >= 6


def test_splits_are_disjoint_and_named() -> None:
    seeds = [seed for split in SPLITS.values() for seed in (split.start, split.stop - 1)]
    assert seeds == sorted(seeds)
    assert [split_of(split.start) for split in SPLITS.values()] == list(SPLITS)
    with pytest.raises(ValueError, match="no split"):
        split_of(400_000)


def test_captions_say_only_what_is_true_and_only_known_words() -> None:
    rng = np.random.default_rng(0)
    for seed in range(200):
        who = identity(seed)
        true = set(who.phrases())
        words = caption(who, nuisance(seed, 0), rng).split()
        nouns = {factor.noun for factor in FACTORS}
        for before, noun in itertools.pairwise(words):
            if noun in nouns and before in {
                word for factor in FACTORS if factor.noun == noun for word in factor.words
            }:
                assert f"{before} {noun}" in true
    assert set(full_caption(identity(3)).split()) <= set(WORDS)


def test_a_trigger_is_4_to_11_letters() -> None:
    names = [trigger(np.random.default_rng(seed)) for seed in range(300)]
    assert {len(name) for name in names} == set(range(4, 12))
    assert len(set(names)) == 300


def test_a_dataset_stays_inside_one_split(tmp_path) -> None:  # type: ignore[no-untyped-def]
    drawn = draw_dataset(tmp_path / "data", 0, identities=3, pictures=2, workers=1)
    np.testing.assert_array_equal(drawn.pixels[3], picture(1, 1))
    assert drawn.identity_seeds.tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(ValueError, match="one split"):
        draw_dataset(tmp_path / "bad", 99_999, identities=2, pictures=1)
