"""What encoders are trained on: zoos on disk, and LoRAs fine-tuned as the training goes."""

from dataclasses import replace
from itertools import islice, pairwise

import pytest
import torch

from loraudit.errors import LorauditError
from loraudit.training.samples import ZooSource
from tests.encoder_training import source_of, zoo_in
from tests.tiny import tiny_base


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    return zoo_in(tmp_path_factory.mktemp("zoo"))


def test_a_zoo_of_another_base_is_refused(zoo) -> None:
    with pytest.raises(LorauditError, match="another base"):
        ZooSource.of(tiny_base(), replace(zoo, base="0" * 64), 0)


def test_zoo_samples_mix_people_and_snapshots(zoo) -> None:
    source = ZooSource.of(tiny_base(), zoo, 0, 3)
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
    finished = ZooSource.of(tiny_base(), zoo, 0, 3, finished_only=True)
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
