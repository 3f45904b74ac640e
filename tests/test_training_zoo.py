"""Zoos: interrupted and built on they end with the same files; what does not fit together is refused."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from loraudit.encoder import stack_loras
from loraudit.errors import LorauditError
from loraudit.lora import Factors, LoRA, LoRAFile
from loraudit.people.sources import Synthetic
from loraudit.training.finetune import Recipe, finetune
from loraudit.training.zoo import build_zoo, fingerprint, open_zoo, person, take
from loraudit.training.zoo_plan import Plan, members_of, read_plan
from models.recipes.zoo import main as build_main
from tests.tiny import save_pipeline, tiny_base, tiny_pipeline

RECIPE = Recipe(rank=2, lr=1e-2, steps=3, class_images=2)
PLAN = Plan((0, 4, 8), RECIPE, (1, 3), people_per_pass=2)


def prior() -> torch.Tensor:
    return torch.randn(4, *tiny_base().latent_shape, generator=torch.Generator().manual_seed(9))


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    return build_zoo(tiny_base(), tmp_path_factory.mktemp("zoo"), PLAN, prior())


def test_it_holds_every_lora_at_every_snapshot(zoo) -> None:
    members = members_of(PLAN)
    group = [person(tiny_base(), m, m.identity) for m in members[:2]]
    for step, adapters, _ in finetune(tiny_base(), group, RECIPE, prior()):
        if step in PLAN.snapshots:
            saved = zoo.terms(0, step)
            assert saved.keys() == adapters.terms().keys()
            for site, (up, down) in adapters.terms().items():
                assert torch.equal(saved[site][0], up) and torch.equal(saved[site][1], down)
    assert len({m.name for m in members}) == 3


def test_interrupted_and_built_on_it_is_the_same(zoo, tmp_path) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, total: int, stage: str) -> None:
        assert (total, stage) == (6, "building the zoo")
        if done == 5:  # within the second pass
            raise Stop

    with pytest.raises(Stop):
        build_zoo(tiny_base(), tmp_path, PLAN, prior(), stop)
    assert {file.name for file in tmp_path.iterdir()} == {"zoo.json", "pass-0000.safetensors"}
    with pytest.raises(LorauditError, match="unfinished"):
        open_zoo(tmp_path)
    seen = []
    build_zoo(tiny_base(), tmp_path, PLAN, prior(), lambda done, total, _: seen.append((done, total)))
    # What is there already counts as done from the first word on.
    assert seen == [(3, 6), (4, 6), (5, 6), (6, 6)]
    files = sorted(file.name for file in zoo.folder.iterdir())
    assert files == ["pass-0000.safetensors", "pass-0001.safetensors", "zoo.json"]
    for name in files:
        assert (tmp_path / name).read_bytes() == (zoo.folder / name).read_bytes()
    assert open_zoo(tmp_path).plan == PLAN


def test_single_rows_equal_whole_passes(zoo) -> None:
    rows = zoo.rows([(2, 1), (0, 3), (1, 1)])
    assert set(rows) == set(zoo.terms(0, 1))
    for site, (up, down) in rows.items():
        expected = [(zoo.terms(2, 1), 0), (zoo.terms(0, 3), 0), (zoo.terms(0, 1), 1)]
        for index, (terms, row) in enumerate(expected):
            assert torch.equal(up[index], terms[site][0][row])
            assert torch.equal(down[index], terms[site][1][row])
    backwards = take(rows, [2, 0])
    assert torch.equal(backwards[site][0], up[[2, 0]])


def test_an_auditor_reads_the_same_numbers(zoo) -> None:
    """What an encoder is trained on is what `stack_loras` makes of the finished file."""
    terms = zoo.terms(0, 3)
    factors = {s: Factors(up[1].numpy(), down[1].numpy(), 1.0) for s, (up, down) in terms.items()}
    lora = LoRA(LoRAFile("x", zoo.folder, "", 0, {}), "", None, "diffusers", factors, ())
    sites = [site for site in factors if site.startswith("unet.")]
    read = stack_loras([lora], sites, 2)
    rows = zoo.rows([(1, 3)])
    assert all(torch.equal(read[site][0], rows[site][0]) for site in sites)
    assert all(torch.equal(read[site][1], rows[site][1]) for site in sites)


@pytest.mark.parametrize(
    "other",
    [
        replace(PLAN, people=(0, 4, 12)),
        replace(PLAN, recipe=replace(RECIPE, lr=2e-2)),
        replace(PLAN, snapshots=(2, 3)),
        replace(PLAN, seed=1),
    ],
)
def test_another_plan_is_refused(zoo, other) -> None:
    before = (zoo.folder / "zoo.json").read_bytes()
    with pytest.raises(LorauditError, match="another plan"):
        build_zoo(tiny_base(), zoo.folder, other, prior())
    assert (zoo.folder / "zoo.json").read_bytes() == before


def test_another_base_is_refused(zoo) -> None:
    assert fingerprint(tiny_base()) == zoo.base
    other = replace(tiny_base(), unet=tiny_pipeline(seed=1).unet)
    with pytest.raises(LorauditError, match="another base"):
        build_zoo(other, zoo.folder, PLAN, prior())


def test_other_people_are_refused(tmp_path) -> None:
    with pytest.raises(LorauditError, match="other people"):
        build_zoo(tiny_base(), tmp_path, replace(PLAN, data="folders:1234"), prior())


@pytest.mark.parametrize("snapshots", [(), (0, 3), (3, 1), (1, 4), (1, 1)])
def test_senseless_snapshots(snapshots) -> None:
    with pytest.raises(LorauditError, match="snapshots"):
        replace(PLAN, snapshots=snapshots)


def test_triggers_are_drawn_unless_they_are_named(tmp_path) -> None:
    drawn = [member.name for member in members_of(PLAN)]
    assert len(set(drawn)) == len(drawn)
    named = replace(PLAN, names=("ohwx", "melina darvo", "ohwx"), template="NAME, smiling")
    (tmp_path / "zoo.json").write_text(json.dumps(asdict(named)))
    plan, _ = read_plan(tmp_path)
    assert plan == named
    assert [member.prompt for member in members_of(plan)] == [f"{name}, smiling" for name in named.names]
    assert len(members_of(replace(named, people=(0, 4)))) == 2
    with pytest.raises(LorauditError, match="more people than triggers"):
        replace(PLAN, names=("ohwx",))


def test_what_is_no_zoo(tmp_path, zoo) -> None:
    with pytest.raises(LorauditError, match="not a zoo"):
        open_zoo(tmp_path)
    (tmp_path / "zoo.json").write_text("{}")
    with pytest.raises(LorauditError, match="damaged"):
        open_zoo(tmp_path)
    record = json.loads((zoo.folder / "zoo.json").read_text())
    (tmp_path / "zoo.json").write_text(json.dumps({**record, "snapshots": [9]}))
    with pytest.raises(LorauditError, match="snapshots"):
        open_zoo(tmp_path)
    (tmp_path / "zoo.json").write_text(json.dumps(record))
    for number in range(2):
        (tmp_path / f"pass-{number:04d}.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(LorauditError, match=r"pass-0000\.safetensors cannot be read"):
        open_zoo(tmp_path).terms(0, 3)


def test_a_step_that_was_not_saved(zoo) -> None:
    with pytest.raises(LorauditError, match="no snapshot at step 2"):
        zoo.terms(0, 2)


def test_synthetic_people_to_train_on() -> None:
    chosen = Synthetic().train(50, 0)
    assert len({seed // 4 for seed in chosen}) == 50  # no two of a family
    assert chosen != Synthetic().train(50, 1)
    Synthetic().require_public(chosen)
    for private in (100_000, 200_000, 300_000):
        with pytest.raises(LorauditError, match="held out"):
            Synthetic().require_public((0, private))


def test_the_command_builds_a_private_zoo(tmp_path, capsys) -> None:
    save_pipeline(tmp_path / "base")
    words = ["--base", str(tmp_path / "base"), "--split", "private", "--people", "2", "--steps", "2"]
    built = build_main([str(tmp_path / "zoo"), *words, "--batch", "1", "--rank", "2", "--threads", "1"])
    assert built.plan.people == (200_000, 200_004)
    assert built.plan.snapshots == (1, 2)
    assert open_zoo(tmp_path / "zoo") == built
    assert "building the zoo" in capsys.readouterr().err
