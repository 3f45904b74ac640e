"""A calibration from a base alone: made, killed, resumed, found by a scan, and refused on other weights."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from loraudit.audit import calibrate_base as room
from loraudit.audit.calibrate_loras import MERGE, Batch, merged
from loraudit.audit.calibrate_work import DRAWING, MEASURING, TRAINING, Workday
from loraudit.audit.calibrated import DECOYS, find_calibration
from loraudit.audit.request import Request
from loraudit.audit.setup import set_up
from loraudit.base.load import load_base
from loraudit.cards import calibration_folder
from loraudit.errors import Incomplete, LorauditError
from loraudit.evidence.calibration import FEWEST, KINDS, load_calibration
from loraudit.training.control_plans import Sizes, plans_for
from loraudit.training.finetune import PAPER, TINY
from loraudit.training.zoo_plan import RECORD
from tests.audits import ColourFace
from tests.miniature import RECIPE, SIZES, calibrate, in_small, request
from tests.tiny import save_pipeline, tiny_base, tiny_pipeline

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("base") / "mine")


@pytest.fixture(scope="module")
def made(base, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("made") / "calibration"
    told: list[tuple[int, int, str]] = []
    calibrate(base, out, lambda *step: told.append(step))
    stages = list(dict.fromkeys(stage.partition(",")[0] for _, _, stage in told))
    assert [stage for stage in stages if "class" not in stage] == [DRAWING, TRAINING, MEASURING]
    assert all(0 <= done <= total and "left in all" in stage for done, total, stage in told)
    return out


def test_it_holds_every_kind_and_is_bound_to_the_weights(base, made) -> None:
    found, loaded = load_calibration(made), load_base(str(base))
    assert found.conditions.fingerprint == loaded.fingerprint
    assert {one.kind for one in found.controls} == set(KINDS)
    assert len(found.controls) == 8 and len(found.matches) == len(found.leaking) == SIZES.people
    assert found.spreads
    decoys = find_calibration(str(made), loaded).decoys
    assert decoys is not None and decoys.latents.shape == (SIZES.people, 3, *loaded.latent_shape)
    other = tiny_pipeline(seed=1)
    other.save_pretrained(made.parent / "other")
    with pytest.raises(LorauditError, match="holds a calibration of another base"):
        calibrate(made.parent / "other", made)


def test_it_is_the_same_after_signal_9(base, made, tmp_path) -> None:
    out = tmp_path / "calibration"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    for stage in (TRAINING, MEASURING):
        command = [sys.executable, "-m", "tests.miniature", base, out, stage]
        assert subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode == -signal.SIGKILL
        assert not (out / "calibration.json").exists()
    lines = (out / "done.jsonl").read_text().splitlines()
    assert 0 < len(lines) < 22
    calibrate(base, out)
    assert (out / "done.jsonl").read_text().splitlines()[: len(lines)] == lines
    for name in ("calibration.json", DECOYS, "settings.json"):
        assert (out / name).read_bytes() == (made / name).read_bytes(), name


def test_nothing_is_left_to_do_and_an_attack_that_changed_is_measured_alone(base, made, monkeypatch) -> None:
    with in_small():
        assert room.look_ahead(request(base), str(base), made, SIZES).work == room.Work(*[0] * 9)
        before = (made / "calibration.json").read_bytes()
        version = "loraudit.audit.calibrate.version_of"
        monkeypatch.setattr(version, lambda name: 2 if name == "prompts" else 1)
        ahead = room.look_ahead(request(base), str(base), made, SIZES)
        assert (ahead.work.measured, ahead.work.loras, ahead.work.pictures) == (11, 0, 0)
        # Three prompts, two pictures, one step by classifier-free guidance.
        assert ahead.work.evaluations == 11 * 3 * 2 * 2
    (made / "calibration.json").write_bytes(before)


def test_a_scan_finds_it_by_the_weights_alone(base, made, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    mine = load_base(str(base))
    assert mine.fingerprint is not None
    place = calibration_folder(mine.fingerprint)
    assert find_calibration(None, mine).calibration is None
    place.parent.mkdir(parents=True)
    place.symlink_to(made)
    found = find_calibration(None, mine)
    assert found.calibration is not None and found.decoys is not None
    renamed = replace(mine, name="another name for it")
    assert find_calibration(None, renamed).calibration == found.calibration
    assert find_calibration(None, replace(mine, fingerprint="0" * 64)).calibration is None
    with in_small():
        asked = request(base, ("guidance", "likelihood"))
        photo = torch.rand(3, 16, 16)
        setup = set_up(asked, str(base), "tiny", (photo,), print)
        assert [test.name for test in setup.tests] == ["likelihood"] and setup.calibration is not None
        place.unlink()
        assert set_up(asked, str(base), "tiny", (photo,), print).tests == ()


def test_other_weights_are_told_and_their_data_not_used(made, tmp_path) -> None:
    tiny_pipeline(seed=2).save_pretrained(tmp_path / "other")
    said: list[str] = []
    asked = replace(request(tmp_path / "other"), calibration=str(made))
    with in_small():
        setup = set_up(asked, str(tmp_path / "other"), "tiny", (), said.append)
    assert any("is not used: it was measured on mine" in line for line in said), said
    assert find_calibration(str(made), setup.base).decoys is None
    assert setup.calibration is not None
    conditions = replace(setup.calibration.conditions, fingerprint=setup.base.fingerprint or "")
    assert "other" in (setup.calibration.fit(conditions, ("guidance:class",), 2)[1].unused or "")


@pytest.mark.parametrize("damage", ["no file", "cut", "of other shapes", "not numbers"])
def test_decoys_of_anybody_are_one_error(base, made, tmp_path, damage) -> None:
    from safetensors.torch import save_file

    own = tmp_path / "own"
    own.mkdir()
    (own / "calibration.json").write_bytes((made / "calibration.json").read_bytes())
    loaded = load_base(str(base))
    if damage == "no file":
        assert find_calibration(str(own), loaded).decoys is None
        return
    latents, faces = torch.zeros(2, 3, *loaded.latent_shape), torch.ones(2, 3)
    if damage == "of other shapes":
        latents = latents[..., 1:]
    if damage == "not numbers":
        latents[0] = torch.nan
    save_file({"latents": latents.contiguous(), "faces": faces}, own / DECOYS)
    if damage == "cut":
        (own / DECOYS).write_bytes((own / DECOYS).read_bytes()[:-3])
    with pytest.raises(LorauditError, match="decoys in own cannot be read"):
        find_calibration(str(own), loaded)


def test_a_base_that_draws_nobody_is_told_so(base, tmp_path) -> None:
    class Blind(ColourFace):
        def embed(self, images):
            found = super().embed(images)
            return replace(found, vectors=0 * found.vectors, found=(False,) * len(images))

    with pytest.raises(Incomplete, match="draws nobody whose face"):
        calibrate(base, tmp_path / "out", face=Blind())
    assert not (tmp_path / "out" / "calibration.json").exists()


def test_a_full_disk_is_told_before_anything_is_written(base, tmp_path) -> None:
    with in_small():
        ahead = room.look_ahead(request(base), str(base), tmp_path / "out", SIZES)
        assert not (tmp_path / "out").exists() and ahead.work.size > 0
        with pytest.raises(LorauditError, match="are free"):
            room.calibrate_base(request(base), str(base), replace(ahead, free=ahead.work.size - 1))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("free", "people", "pictures"), [(1e12, 3, 2), (6e5, 1, 2), (4e5, 1, 1)], ids=["much", "some", "little"]
)
def test_a_small_gpu_takes_fewer_people_and_then_fewer_pictures(
    free, people, pictures, tmp_path, monkeypatch
) -> None:
    base = tiny_base()
    monkeypatch.setattr(room, "free_memory", lambda _device: int(free))
    plan = next(plan for _, plan in plans_for(SIZES, RECIPE, 0) if len(plan.people) == 3)
    batch = Batch("people", tmp_path / "zoo", replace(plan, recipe=replace(plan.recipe, batch=2)))
    found = room._fitting(base, batch)
    assert (found.people_per_pass, found.recipe.batch) == (people, pictures)
    # What was begun goes on as it began, whatever is free by then.
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / RECORD).write_text(json.dumps({**asdict(found), "base": ""}))
    monkeypatch.setattr(room, "free_memory", lambda _device: None)
    assert room._fitting(base, batch) == found


def test_what_runs_out_of_memory_while_it_is_counted_has_one_picture_a_step(tmp_path, monkeypatch) -> None:
    def counted(_base, recipe):
        if recipe.batch > 1:
            raise MemoryError
        return 1

    monkeypatch.setattr(room, "kept_bytes", counted)
    plan = next(plan for _, plan in plans_for(SIZES, RECIPE, 0) if len(plan.people) == 3)
    batch = Batch("people", tmp_path / "zoo", replace(plan, recipe=replace(plan.recipe, batch=2)))
    found = room._fitting(tiny_base(), batch)
    assert (found.people_per_pass, found.recipe.batch) == (3, 1)


def test_the_default_reaches_the_highest_level_by_recipes_of_its_own() -> None:
    sizes = Sizes()
    controls = sizes.crowds + sizes.styles + sizes.things + sizes.merged + sizes.noise
    assert controls >= FEWEST and sizes.people >= FEWEST and sizes.people >= MERGE * sizes.merged
    for like in (TINY, PAPER):
        plans = plans_for(sizes, like, 0)
        assert sum(len(plan.people) for _, plan in plans) == controls + sizes.people - 8
        people = [plan for kind, plan in plans if kind == "people"]
        assert len({plan.recipe for plan in people}) == len(people) >= 30
        assert len({who for plan in people for who in plan.people}) == sizes.people
        assert {plan.captions for plan in people} == {True, False}
        assert {bool(plan.recipe.prior_weight) for plan in people} == {True, False}
        assert {plan.pictures for kind, plan in plans if kind == "crowds"} == {20}


def test_merged_is_the_mean_of_any_loras() -> None:
    noise = torch.Generator().manual_seed(0)

    def lora(**ranks: int):
        return {
            site: (torch.randn(1, 6, r, generator=noise), torch.randn(1, r, 5, generator=noise))
            for site, r in ranks.items()
        }

    loras = [lora(a=2, b=3), lora(a=4), lora(b=1)]
    found = merged(loras)
    for site in "ab":
        mean = sum(one[site][0] @ one[site][1] for one in loras if site in one) / 3
        assert torch.allclose(found[site][0] @ found[site][1], mean, atol=1e-5)


def test_the_time_left_is_the_estimate_first_and_then_the_own_speed() -> None:
    clock, told = [0.0], []
    day = Workday({DRAWING: 100.0, TRAINING: 200.0}, lambda *step: told.append(step), lambda: clock[0])
    day.tell(DRAWING, 0.0, 0, 10)
    clock[0] = 5.0
    day.tell(DRAWING, 0.01, 0, 10)
    clock[0] = 10.0
    day.tell(DRAWING, 0.5, 5, 10)
    day.tell(TRAINING, 0.0, 0, 3)
    clock[0] = 20.0
    day.tell(TRAINING, 1.0, 3, 3)
    left = [stage.rpartition("about ")[2].removesuffix(" left in all") for _, _, stage in told]
    assert left == ["5 min", "5 min", "4 min", "3 min", "0 s"]


def test_a_request_without_a_face_model_is_incomplete(base, tmp_path, monkeypatch) -> None:
    from loraudit.audit import setup
    from loraudit.findings.report import Gap

    monkeypatch.setattr(setup, "open_scorers", lambda *_: (None, (Gap("face model", "not at hand"),)))
    with pytest.raises(Incomplete, match="cannot calibrate without face model"):
        room.look_ahead(Request(base=str(base)), str(base), tmp_path / "out", SIZES)
