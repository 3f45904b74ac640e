"""Calibration data: made, read, and compared with what a scan is."""

import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image

from loraudit.errors import LorauditError
from loraudit.evidence.calibration import Calibration, Conditions, Control, Leaking, load_calibration
from loraudit.evidence.null import Null
from loraudit.lora import write_kohya

HERE = Conditions("tiny", "b" * 64, 25, 3.0, {"paper": 1, "prompts": 2}, {"paper": "a" * 64}, "f" * 64)
ROW = {"paper": (0.5, 0.25), "prompts:any-name": (0.0, 1.0)}
MADE = Calibration(
    "c",
    HERE,
    (8, 12),
    (Control("noise", ROW),) * 99,
    (ROW,) * 99,
    (Leaking(ROW, ROW),),
    tuple({"ff.net": (8.0, 3 + 0.001 * i)} for i in range(100)),
    {"torch": "2"},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    MADE.write(tmp_path / "c")
    assert load_calibration(tmp_path / "c") == MADE


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document.update(schema="other"),
        lambda document: document.update(extra=1),
        lambda document: document.update(looks=[12, 8]),
        lambda document: document.pop("matches"),
        lambda document: document["leaking"][0].pop("likeness"),
        lambda document: document["leaking"][0].update(extra={}),
        lambda document: document["leaking"][0]["agreement"].pop("paper"),
        lambda document: document["leaking"][0]["likeness"].pop("paper"),
        lambda document: document["matches"][0].update(other=[0.5, 0.5]),
        lambda document: [row.pop("paper") for row in document["matches"]],
        lambda document: document["spreads"].append({"ff.net": [8, 0.5]}),
        lambda document: document["spreads"].append({"ff.net": 8}),
        lambda document: document.update(spreads=["many"]),
        lambda document: document["conditions"].pop("face"),
        lambda document: document["conditions"].update(steps="25"),
        lambda document: document["controls"][0].update(kind="people"),
        lambda document: document["controls"][0].update(extra=1),
        lambda document: document["controls"][0]["scores"].update(paper=[0.5]),
        lambda document: document["controls"][0]["scores"].update(paper=[0.5, 1.5]),
        lambda document: document["controls"][0]["scores"].pop("paper"),
    ],
)
def test_what_is_damaged_is_one_error(spoil, tmp_path: Path) -> None:
    MADE.write(tmp_path)
    document = json.loads((tmp_path / "calibration.json").read_text())
    spoil(document)
    (tmp_path / "calibration.json").write_text(json.dumps(document))
    with pytest.raises(LorauditError, match="cannot be read"):
        load_calibration(tmp_path)


def test_data_of_another_version_say_so(tmp_path: Path) -> None:
    MADE.write(tmp_path)
    document = json.loads((tmp_path / "calibration.json").read_text())
    said_of = {"loraudit.calibration/2": "another version of loraudit", "x/3": "cannot be read"}
    for schema, said in said_of.items():
        (tmp_path / "calibration.json").write_text(json.dumps(document | {"schema": schema}))
        with pytest.raises(LorauditError, match=said):
            load_calibration(tmp_path)


def test_an_attack_for_photos_only_counts_for_the_likeness_alone() -> None:
    both = ROW | {"search:half": (0.75, 0.75)}
    made = dataclasses.replace(MADE, matches=(both,) * 99, leaking=(Leaking(ROW, both),))
    null, used = made.fit(HERE, ("paper",), 16, likeness_only=("search:half",))
    assert null == Null((8, 12), (0.5,) * 99, (0.75,) * 99, (0.5,), (0.75,))
    assert made.fit(HERE, ("paper",), 16)[0] == MADE.fit(HERE, ("paper",), 16)[0]
    assert "no scores of the attack search:half" in (
        made.fit(HERE, ("paper", "search:half"), 16)[1].unused or ""
    )
    # Data without it do not fit, unless they hold too few LoRAs of people to compare a likeness with.
    null, used = MADE.fit(HERE, ("paper",), 16, likeness_only=("search:half",))
    assert null is None and "no scores of the attack search:half" in (used.unused or "")
    alone = dataclasses.replace(MADE, matches=(), leaking=())
    assert alone.fit(HERE, ("paper",), 16, likeness_only=("search:half",))[0] == Null((8, 12), (0.5,) * 99)


def test_what_people_score_for_photos_only_is_read(tmp_path: Path) -> None:
    both = ROW | {"search:half": (0.75, 0.75)}
    made = dataclasses.replace(MADE, matches=(both,) * 99, leaking=(Leaking(ROW, both),))
    made.write(tmp_path)
    assert load_calibration(tmp_path) == dataclasses.replace(made, name=tmp_path.name)


def test_a_file_is_held_against_the_directions_of_loras_of_one_person() -> None:
    def one_person(directions, made=MADE):
        null, _ = made.fit(HERE, ("paper",), 16, directions and {"ff.net": (8.0, directions)})
        assert null is not None
        return null.one_person

    assert one_person(2.0) > 0.99 > one_person(3.0495) > 0.4 > 0.001 > one_person(3.2)
    assert one_person(None) == one_person(9.0, dataclasses.replace(MADE, spreads=())) == 1.0


def test_what_is_not_there_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(LorauditError, match="cannot be read"):
        load_calibration(tmp_path)


@pytest.mark.parametrize(
    ("changes", "attacks", "most", "why"),
    [
        ({}, ("paper", "prompts:any-name"), 16, None),
        ({}, ("paper", "prompts:trigger-2"), 16, "no scores of the attack prompts:trigger-2"),
        ({"base": "my own name for it"}, ("paper",), 16, None),
        ({"base": "sd14", "fingerprint": "0" * 64}, ("paper",), 16, "on another base, tiny"),
        ({"fingerprint": "0" * 64}, ("paper",), 16, "on other weights, tiny"),
        ({"attacks": {"prompts": 2}}, ("prompts:any-name",), 16, None),
        ({"attacks": {"prompts": 3}}, ("prompts:any-name",), 16, "another version of the attack prompts"),
        ({"attacks": {"guidance": 3}}, ("guidance:class",), 16, "no scores of the attack guidance:class"),
        ({"steps": 20}, ("paper",), 16, "with 25 steps"),
        ({"guidance": 7.5}, ("paper",), 16, "guidance 3"),
        ({"face": "0"}, ("paper",), 16, "another face model"),
        ({"encoders": {"paper": "0"}}, ("paper",), 16, "another encoder"),
        ({}, ("guidance:class",), 16, "no scores of the attack guidance:class"),
        ({}, ("paper",), 4, "8 pictures or more"),
    ],
)
def test_it_is_used_where_it_fits_alone(changes, attacks, most, why) -> None:
    null, used = MADE.fit(dataclasses.replace(HERE, **changes), attacks, most)
    assert (null is None) == (why is not None)
    assert (why or "") in (used.unused or "")
    assert used.controls == 99


def test_words_of_the_file_are_any_name_among_controls() -> None:
    from loraudit.attacks.plan import Plan
    from loraudit.attacks.prompts import PromptsAttack
    from loraudit.audit.setup import Setup
    from loraudit.base.model import Sampling
    from loraudit.scores.scorers import Scorers
    from tests.audits import ColourFace, random_lora
    from tests.tiny import tiny_base

    base, lora = tiny_base(), random_lora(metadata={"instance_prompt": "zwx", "trained_words": "zwy"})
    conditions = dataclasses.replace(HERE, fingerprint="", attacks={"prompts": 1}, encoders={})
    scorers = Scorers(ColourFace(), face_sha256=HERE.face)
    setup = Setup(base, scorers=scorers, calibration=dataclasses.replace(MADE, conditions=conditions))
    plan = Plan(tuple(range(16)), Sampling(HERE.steps, HERE.guidance))
    aims = [aim for aim in PromptsAttack().aims(lora, base) if aim.attack.startswith("prompts:trigger")]
    assert [aim.attack for aim in aims] == ["prompts:trigger", "prompts:trigger-2"]
    null, used = setup.null(lora, aims, plan)
    assert null is not None and used is not None and used.unused is None
    null, used = setup.null(lora, [dataclasses.replace(aim, calibrated_as=None) for aim in aims], plan)
    assert null is None and used is not None
    assert used.unused == "no scores of the attack prompts:trigger"


def test_few_controls_are_not_used_and_the_null_is_the_maximum() -> None:
    few = dataclasses.replace(MADE, controls=MADE.controls[:98])
    assert "99 control LoRAs or more" in (few.fit(HERE, ("paper",), 16)[1].unused or "")
    assert MADE.fit(HERE, ("paper",), 8)[0] == Null((8,), (0.5,) * 99, (0.5,) * 99, (0.5,), (0.5,))
    both = MADE.fit(HERE, ("paper", "prompts:any-name"), 32)[0]
    assert both == Null((8, 12), (1.0,) * 99, (1.0,) * 99, (1.0,), (1.0,))


def test_of_an_attack_for_photos_only_the_likeness_is_measured() -> None:
    from loraudit.attacks.plan import Plan
    from loraudit.attacks.search.gap import Climb
    from loraudit.attacks.search.rows import Ascent
    from loraudit.attacks.search.search import SearchAttack
    from loraudit.audit.calibrate import measure
    from loraudit.base.model import Sampling
    from loraudit.scores.scorers import Scorers, look_at
    from tests.audits import ColourFace, random_lora
    from tests.tiny import tiny_base

    base, face = tiny_base(), ColourFace()
    quick = SearchAttack(ascent=Ascent(steps=2, restarts=1), climb=Climb(1, 1, 1), photos=True)
    plan = Plan(tuple(range(8)), Sampling(1, 2.0))
    photos = base.sample(base.encode_text(["A human face."]), [1], plan.sampling)
    alone, told = Scorers(face), Scorers(face, references=look_at(list(photos), face, None))
    agreement, likeness = measure(base, [quick], plan, (alone, told), random_lora())
    assert set(agreement) == {"search", "search:usual"}
    assert set(likeness) == {"search", "search:usual", "search:half"}
    assert likeness["search:half"] != likeness["search:usual"]


def test_calibrate_goes_on_where_it_stopped(tmp_path: Path) -> None:
    from loraudit.audit.calibrate import calibrate
    from loraudit.audit.calibrate_folders import calibrate_folders
    from loraudit.audit.request import Request
    from loraudit.audit.setup import set_up_to_calibrate
    from loraudit.base.load import load_base
    from loraudit.base.lowrank import stack
    from loraudit.lora import load_lora
    from loraudit.people.sources import portraits
    from tests.audits import random_factors

    tiny = load_base("tiny")
    (tmp_path / "controls" / "noise").mkdir(parents=True)
    for name in "ab":
        write_kohya(random_factors(tiny, 1), tmp_path / "controls" / "noise" / f"{name}.safetensors")
    for number, name in enumerate(("ada", "bob", "cy")):
        (tmp_path / "people" / name).mkdir(parents=True)
        write_kohya(random_factors(tiny, 1, number), tmp_path / "people" / name / "lora.safetensors")
        if name == "cy":
            continue  # without photos
        pixels = (portraits(200_000 + number, 0, 1)[0].permute(1, 2, 0) * 255).byte().numpy()
        Image.fromarray(pixels).save(tmp_path / "people" / name / "0.png")
    request = Request(base="tiny", attacks=("guidance",), samples=2, steps=1, device="cpu", offline=True)
    setup, plan = set_up_to_calibrate(request, "tiny")
    arguments = (setup, plan, tmp_path / "controls", tmp_path / "people", tmp_path / "out")
    made = calibrate_folders(*arguments)
    assert load_calibration(tmp_path / "out") == made
    assert [control.kind for control in made.controls] == ["noise", "noise"]
    assert set(made.matches[0]) == {"guidance:class", "guidance:any-name"}
    assert (len(made.matches), len(made.leaking), len(made.spreads)) == (2, 2, 1)
    assert set(made.leaking[0].agreement) == set(made.leaking[0].likeness) == set(made.matches[0])
    done = tmp_path / "out" / "done.jsonl"
    lines = done.read_text().splitlines(keepends=True)
    done.write_text("".join(lines[:-1]) + lines[-1][:9])  # cut in the middle of a line
    assert calibrate_folders(*arguments) == made
    assert done.read_text().splitlines(keepends=True) == lines
    kept = done.read_text()
    one = '{"lora": "a", "attack": "guidance", "version": 1, "encoder": null, "scores": [{"a": ["b"]}]}\n'
    for spoilt in ("{\n", "[]\n", '{"lora": "a"}\n', one):
        done.write_text(spoilt)
        with pytest.raises(LorauditError, match=r"done\.jsonl in out is damaged"):
            calibrate_folders(*arguments)
    done.write_text(kept)
    picture = tmp_path / "people" / "ada" / "1.heic"
    picture.touch()
    with pytest.raises(LorauditError, match="1 of 2 files was not read"):
        calibrate_folders(setup, plan, tmp_path / "controls", tmp_path / "people", tmp_path / "another")
    picture.unlink()
    longer = dataclasses.replace(plan, seeds=(0, 1, 2))
    with pytest.raises(LorauditError, match="other settings"):
        calibrate_folders(setup, longer, *arguments[2:])
    with pytest.raises(LorauditError, match="there is no folder"):
        calibrate_folders(setup, plan, tmp_path / "none", None, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "nobody" / "dan").mkdir(parents=True)
    lacking = r"with lora\.safetensors in it"
    for identities, why in (("none", "there is no folder"), ("nobody", lacking), ("people/ada", lacking)):
        with pytest.raises(LorauditError, match=why):
            calibrate_folders(setup, plan, tmp_path / "controls", tmp_path / identities, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    lora = load_lora(str(tmp_path / "controls" / "noise" / "a.safetensors"))
    face = setup.scorers.face
    for one in (lora, stack([lora])):
        again = calibrate(tiny, setup.attacks, plan, face, [("noise", one)], face_sha256="")
        assert again.controls == made.controls[:1]


def test_an_attack_that_changed_is_measured_again_and_no_other(tmp_path: Path, monkeypatch) -> None:
    from loraudit.attacks.guidance import GuidanceAttack
    from loraudit.attacks.plan import Plan
    from loraudit.attacks.prompts import PromptsAttack
    from loraudit.audit import calibrate as room
    from loraudit.audit.calibrate import Subject, measured
    from loraudit.base.model import Sampling
    from loraudit.runs import Run
    from tests.audits import ColourFace, random_lora
    from tests.tiny import tiny_base

    asked: list[str] = []

    def counted(base, attacks, *rest):
        asked.extend(attack.name for attack in attacks)
        return measure(base, attacks, *rest)

    measure = room.measure
    monkeypatch.setattr(room, "measure", counted)
    attacks, plan = [GuidanceAttack(), PromptsAttack()], Plan((0, 1), Sampling(1, 2.0))
    subjects = [Subject("noise", name, random_lora) for name in "ab"]
    run = Run(tmp_path)
    rows = measured(tiny_base(), attacks, plan, ColourFace(), subjects, run)
    assert asked == ["guidance", "prompts"] * 2 and [kind for kind, _ in rows] == ["noise", "noise"]
    assert {name.partition(":")[0] for name in rows[0][1][0]} == {"guidance", "prompts"}
    assert measured(tiny_base(), attacks, plan, ColourFace(), subjects, run) == rows and len(asked) == 4
    monkeypatch.setattr(room, "version_of", lambda name: 2 if name == "prompts" else 1)
    assert measured(tiny_base(), attacks, plan, ColourFace(), subjects, run) == rows
    assert asked[4:] == ["prompts"] * 2
    assert measured(tiny_base(), attacks, plan, ColourFace(), subjects, run) == rows and len(asked) == 6
