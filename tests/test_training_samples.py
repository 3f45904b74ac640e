"""What encoders are trained on: zoos on disk, and LoRAs fine-tuned as the training goes."""

from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image

from loraudit.errors import LorauditError
from loraudit.people.folders import FolderPeople, open_folders
from loraudit.people.portrait import picture
from loraudit.people.sources import Synthetic
from loraudit.training.latents import Latents
from loraudit.training.samples import LiveSource, ZooSource
from loraudit.training.zoo_plan import Plan, members_of
from tests.encoder_training import RECIPE, latents_of, prior, source_of, zoo_in
from tests.tiny import tiny_base


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    return zoo_in(tmp_path_factory.mktemp("zoo"))


def test_a_zoo_of_another_base_is_refused(zoo) -> None:
    with pytest.raises(LorauditError, match="another base"):
        ZooSource.of(replace(zoo, base="0" * 64), latents_of(), 0)


def test_zoo_samples_mix_people_and_snapshots(zoo) -> None:
    source = ZooSource.of(zoo, latents_of(), 0, 3)
    seen = list(islice(source.samples(0, 0), 12))
    assert {int(step) for sample in seen for step in sample.steps} == {2, 4}
    assert any(len(set(sample.steps.tolist())) == 2 for sample in seen)
    for index, sample in enumerate(seen[:4]):
        assert {site.partition(".")[0] for site in sample.terms} == {"unet", "text_encoder"}
        for row in range(3):
            terms = zoo.rows([(row, int(sample.steps[row]))])
            assert all(torch.equal(terms[site][0][0], up[row]) for site, (up, _) in sample.terms.items())
        # A stream that starts in the middle goes on with the same samples; another process has its own.
        again = next(source.samples(index, 0))
        assert torch.equal(again.steps, sample.steps)
    assert any(not torch.equal(a.steps, b.steps) for a, b in zip(seen, source.samples(0, 1), strict=False))
    finished = ZooSource.of(zoo, latents_of(), 0, 3, finished_only=True)
    assert all((sample.steps == 4).all() for sample in islice(finished.samples(0, 0), 8))


def test_live_samples_follow_the_algorithm() -> None:
    """Groups of people, s' steps uniform in 1..S, every step of them a sample."""
    seen = list(islice(source_of("live", None).samples(0, 0), 40))
    steps = [int(sample.steps[0]) for sample in seen]
    assert all(torch.equal(sample.steps, sample.steps[:1].expand(2)) for sample in seen)
    runs = [before for before, after in pairwise(steps) if after == 1]
    assert set(runs) == {1, 2, 3, 4}  # where groups end
    assert all(after in (1, before + 1) for before, after in pairwise(steps))
    # The same LoRA at the next step: what the fine-tuning itself makes of it.
    site = next(iter(seen[0].terms))
    first = seen.index(next(s for s, nxt in pairwise(seen) if nxt.steps[0] == 2))
    assert not torch.equal(seen[first].terms[site][0], seen[first + 1].terms[site][0])
    for index in (3, 17):
        again = next(source_of("live", None).samples(index, 0))
        assert torch.equal(again.terms[site][0], seen[index].terms[site][0])
    finished = islice(source_of("live", None, finished_only=True).samples(0, 0), 3)
    assert [int(sample.steps[0]) for sample in finished] == [4, 4, 4]


class Counted(Synthetic):
    """Synthetic people, with a list of those whose pictures were asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def pictures(self, identity: int, size: int, most: int = 5) -> torch.Tensor:
        self.asked.append(identity)
        return super().pictures(identity, size, most)


def live(latents: Latents, people: tuple[int, ...], group: int = 2) -> LiveSource:
    return LiveSource(members_of(Plan(people, RECIPE, (4,))), latents, RECIPE, prior(), group, 0)


def test_pictures_are_encoded_when_their_person_is_drawn(zoo) -> None:
    """Not before the first step, and not again on a resume: CelebA-HQ has 6,217 people."""
    people = Counted()
    source = live(latents_of(people), tuple(range(0, 40, 4)))
    stream = source.samples(0, 0)
    assert not people.asked
    first = next(stream)
    assert len(people.asked) == 2 == len(first.latents)
    later = list(islice(stream, 11))
    resumed = Counted()
    again = next(live(latents_of(resumed), tuple(range(0, 40, 4))).samples(11, 0))
    assert len(resumed.asked) == 2 and len(people.asked) == len(set(people.asked)) > 2
    assert all(map(torch.equal, again.latents, later[-1].latents))
    of_zoo = Counted()
    next(ZooSource.of(zoo, latents_of(of_zoo), 0, 2).samples(5, 0))
    assert len(of_zoo.asked) == 2


def test_no_more_latents_are_kept_than_fit() -> None:
    people = Counted()
    latents = latents_of(people)
    one = latents.of(0).nbytes
    few = Latents(tiny_base(), people, most=2 * one)
    for who in (0, 4, 0, 8, 0, 4):
        few.of(who)
    # 8 pushed out 4, the least recently used; 0 stayed.
    assert people.asked == [0, 0, 4, 8, 4]
    assert torch.equal(few.of(0), latents.of(0))


def folder_of(tmp_path: Path, damaged: str) -> FolderPeople:
    for name in ("ada", "bob", "eve"):
        (tmp_path / name).mkdir()
        Image.fromarray(picture(len(name), 0)).save(tmp_path / name / "a.png")
    (tmp_path / damaged / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return open_folders(tmp_path)


def test_a_photo_that_cannot_be_read_leaves_its_person_out(tmp_path) -> None:
    """A training of days does not end over one file, and says whom it left out."""
    people = folder_of(tmp_path, "bob")
    latents = Latents(tiny_base(), people)
    seen = list(islice(live(latents, (0, 1, 2), group=3).samples(0, 0), 6))
    assert all(len(sample.latents) == 2 for sample in seen)
    assert list(latents.unread) == [1] and "a.png" in latents.unread[1]
    assert {prompt for sample in seen for prompt in sample.prompts} == {
        member.prompt for member in members_of(Plan((0, 2), RECIPE, (4,)))
    }
    with pytest.raises(LorauditError, match="nobody's pictures can be read"):
        next(live(Latents(tiny_base(), people), (1,)).samples(0, 0))
