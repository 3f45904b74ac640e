"""LoRAs without a private identity: things have no face, crowds share nobody, styles have colours."""

import itertools

import pytest
import torch

from loraudit.cards import models_dir
from loraudit.errors import LorauditError
from loraudit.people import objects, styles
from loraudit.people.identity import FAMILY, SPLITS
from loraudit.people.sources import portraits
from loraudit.people.things import CAST, CROWDS, Crowds, Styles, Things
from loraudit.scores.face import load_tiny_face
from loraudit.training.zoo import open_zoo
from models.recipes.zoo import main as build_main
from tests.tiny import save_pipeline

CONTROL = SPLITS["control"].start
SOURCES = {"things": Things(), "crowds": Crowds("control"), "styles": Styles("control")}


@pytest.mark.parametrize("name", list(SOURCES))
def test_pictures_are_a_function_of_the_identity(name) -> None:
    source = SOURCES[name]
    first = source.pictures(CONTROL + 3, 64)
    assert source.name == name
    assert first.shape == (5 if name == "things" else CAST, 3, 64, 64)
    assert first.dtype == torch.float32 and 0 <= first.min() < first.max() <= 1
    assert torch.equal(first, source.pictures(CONTROL + 3, 64))
    assert torch.equal(first[:2], source.pictures(CONTROL + 3, 64, 2))
    assert (first[0] != first[1]).float().mean() > 0.2
    assert (first[0] != source.pictures(CONTROL + 4, 64, 1)[0]).float().mean() > 0.2
    assert source.pictures(CONTROL + 3, 32, 1).shape == (1, 3, 32, 32)


def colours(pictures: torch.Tensor) -> torch.Tensor:
    """Histogram of colours `[N, 125]` of pictures `[N, 3, H, W]`."""
    bins = ((pictures * 5).long().clamp(0, 4) * torch.tensor([25, 5, 1])[:, None, None]).sum(1)
    return torch.stack([torch.bincount(one.flatten(), minlength=125).float() / one.numel() for one in bins])


def contrast(groups: list[torch.Tensor]) -> float:
    """Mean distance of two pictures of different groups over that of two of one group."""
    count, each = len(groups), len(groups[0])
    histograms = torch.cat([colours(group) for group in groups])
    distance = torch.cdist(histograms, histograms, p=1)
    label = torch.arange(count).repeat_interleave(each)
    same = label[:, None] == label[None, :]
    return float(distance[~same].mean() / distance[same & ~torch.eye(count * each, dtype=torch.bool)].mean())


@pytest.mark.parametrize(("name", "least"), [("things", 1.1), ("styles", 1.2)])
def test_identities_differ_more_than_pictures_of_one(name, least) -> None:
    middle = slice(20, 44) if name == "things" else slice(None)
    groups = [SOURCES[name].pictures(CONTROL + i, 64, 5)[:, :, middle, middle] for i in range(30)]
    assert contrast(groups) > least
    # Negative control: the same pictures dealt out at random make groups of nothing in common.
    order = torch.randperm(150, generator=torch.Generator().manual_seed(0))
    assert contrast(list(torch.cat(groups)[order].split(5))) == pytest.approx(1, abs=0.05)


def test_every_kind_occurs_and_draws_something_of_its_own() -> None:
    assert {objects.object_of(CONTROL + i).kind for i in range(200)} == set(objects.KINDS)
    assert {styles.style_of(CONTROL + i).kind for i in range(200)} == set(styles.KINDS)
    pixels = (portraits(CONTROL, count=1)[0].permute(1, 2, 0) * 255).byte().numpy()
    by_kind = {styles.style_of(i).kind: styles.style_of(i) for i in range(200)}
    drawn = [styles.stylise(pixels, style, 0).astype(int) for style in by_kind.values()]
    for one, other in itertools.combinations([pixels.astype(int), *drawn], 2):
        assert abs(one - other).mean() > 8


def test_the_face_model_sees_crowds_and_seldom_things() -> None:
    face = load_tiny_face(models_dir() / "tiny-face")

    def share(pictures: torch.Tensor) -> float:
        found = face.embed(pictures).found
        return sum(found) / len(found)

    things = share(torch.cat([Things().pictures(CONTROL + i, 64, 2) for i in range(60)]))
    crowds = share(torch.cat([SOURCES["crowds"].pictures(CONTROL + i, 64) for i in range(5)]))
    assert things < 0.25 and crowds > 0.95


def shared(crowds: list[tuple[int, ...]]) -> int:
    """How often somebody turns up again."""
    people = [who for crowd in crowds for who in crowd]
    return len(people) - len(set(people))


def test_nobody_is_twice_in_a_crowd_or_in_two() -> None:
    crowds, cast = SOURCES["crowds"], SOURCES["styles"]
    every = [source.people(CONTROL + i) for source in (crowds, cast) for i in range(CROWDS)]
    assert shared(every) == 0
    assert shared([*every, (*every[0][:1], *every[1][1:2])]) == 2  # negative control
    assert all(who in SPLITS["control"] for crowd in every for who in crowd)
    families = [who // FAMILY for who in itertools.chain.from_iterable(every[:CROWDS])]
    assert len(families) == len(set(families)) == CAST * CROWDS
    # Zoos of single people and galleries take the first of a family.
    assert all(who % FAMILY for crowd in every for who in crowd)
    first = crowds.people(CONTROL)
    assert torch.equal(crowds.pictures(CONTROL, 64), torch.cat([portraits(who, count=1) for who in first]))


@pytest.mark.parametrize("identity", [CONTROL - 1, CONTROL + CROWDS, SPLITS["private"].start])
def test_what_is_no_crowd_of_the_split_is_refused(identity) -> None:
    for source in (SOURCES["crowds"], SOURCES["styles"]):
        with pytest.raises(LorauditError, match=f"not one of the 1250 {source.name} of control"):
            source.pictures(identity, 64)


@pytest.mark.parametrize("source", [Things(), Crowds(), Styles()], ids=lambda source: source.name)
def test_only_public_ones_may_be_trained_on(source) -> None:
    chosen = source.train(50, 0)
    assert len(set(chosen)) == 50 and chosen != source.train(50, 1)
    source.require_public(chosen)
    source.pictures(chosen[0], 64, 1)
    for split in ("public-validation", "private", "control"):
        with pytest.raises(LorauditError, match="held out"):
            source.require_public((0, SPLITS[split].start))
    with pytest.raises(LorauditError, match="to train on"):
        source.train(100_001, 0)


def test_held_out_crowds_supply_no_training() -> None:
    with pytest.raises(LorauditError, match="held out"):
        SOURCES["crowds"].train(5, 0)


@pytest.mark.parametrize("name", list(SOURCES))
def test_the_command_builds_a_zoo_of_them(tmp_path, name) -> None:
    save_pipeline(tmp_path / "base")
    words = ["--base", str(tmp_path / "base"), "--data", name, "--split", "control", "--first", "1"]
    words += ["--people", "2", "--steps", "1", "--batch", "1", "--rank", "2", "--threads", "1"]
    built = build_main([str(tmp_path / "zoo"), *words])
    assert (built.plan.data, built.plan.people) == (name, (CONTROL + 1, CONTROL + 2))
    assert open_zoo(tmp_path / "zoo") == built
