"""Public LoRAs in folders: what is found, what is left out and named, and an encoder trained on the rest."""

import json
import shutil
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from loraudit.base.load import load_base
from loraudit.base.lowrank import stack
from loraudit.base.model import Base
from loraudit.cli import main
from loraudit.encoder import frozen_transformer, load_encoder
from loraudit.errors import LorauditError
from loraudit.lora import load_lora, write_diffusers, write_kohya, write_peft
from loraudit.people.portrait import picture
from loraudit.training import public
from loraudit.training.latents import Latents
from loraudit.training.public import PublicPeople, gather, open_public
from loraudit.training.reader import FOLDS, _folds
from loraudit.training.samples import VariedSource, ZooSource
from loraudit.training.zoo import Zoo, fingerprint, open_varied
from tests.audits import random_factors


@cache
def embedded() -> Base:
    return load_base("tiny")


def factors(seed: int, rank: int = 2, ends: tuple[str, ...] = ("to_q", "to_v")):
    return random_factors(embedded(), rank, seed, ends)


def add_person(folder: Path, name: str, loras: int = 1, rank: int = 2, prompt: str = "A face of x.") -> Path:
    """A person of two photos and so many LoRAs."""
    place = folder / name
    (place / "photos").mkdir(parents=True)
    number = int(name[1:])
    for at in (0, 1):
        Image.fromarray(picture(number, at)).save(place / "photos" / f"{at}.png")
    for at in range(loras):
        write_kohya(factors(10 * number + at, rank), place / f"{at}.safetensors", {"ss_steps": "40"})
    if prompt:
        (place / "prompt.txt").write_text(f"{prompt}\n")
    return place


def trained(people: PublicPeople) -> list[str]:
    return [name for at, name in enumerate(people.names) if not people.held_out(at)]


def gathered(folder: Path, zoo: Path) -> tuple[PublicPeople, tuple[str, ...]]:
    people = open_public(folder)
    return people, gather(embedded(), people, people.train(None, 0), 350, zoo)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()
    }


def test_people_are_folders_with_loras_and_photos_at_any_place_below(tmp_path: Path) -> None:
    add_person(tmp_path, "p1", loras=2)
    deep = add_person(tmp_path, "p2", loras=0)
    write_peft(factors(1), deep / "run" / "peft")
    write_diffusers(factors(2), deep / "run" / "a.safetensors")
    (deep / "run" / "x.jpg").write_bytes(b"x")
    (deep / "loop").symlink_to(tmp_path)
    (deep / ".hidden.safetensors").write_bytes(b"x")
    (deep / "old.ckpt").write_bytes(b"x")
    write_peft(factors(3, ends=("to_q",)), tmp_path / "p3")
    (tmp_path / "readme.txt").write_text("x")
    people = open_public(tmp_path)
    assert people.names == ("p1", "p2", "p3") and people.loras is not None
    assert people.loras["p1"] == ("p1/0.safetensors", "p1/1.safetensors")
    assert set(people.loras["p2"]) >= {"p2/run/peft", "p2/run/a.safetensors", "p2/old.ckpt"}
    assert people.loras["p3"] == ("p3",)
    names = [file.name for file in people.files["p2"]]
    assert {"0.png", "1.png", "x.jpg"} <= set(names)
    before = people.name
    (deep / "run" / "y.jpg").write_bytes(b"x")
    assert open_public(tmp_path).name != before
    for empty in (tmp_path / "gone", deep / "photos"):
        with pytest.raises(LorauditError, match=r"no folder|has a LoRA"):
            open_public(empty)


def test_every_file_that_cannot_be_used_is_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "loras"
    for number in range(1, 9):
        add_person(folder, f"p{number}", prompt="" if number == 2 else f"A face of n{number}.")
    good = trained(open_public(folder))
    assert len(good) > 5
    place = folder / good[0]
    whole = (place / "0.safetensors").read_bytes()
    (place / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (place / "words.safetensors").write_bytes(b"not a tensor")
    (place / "evil.pt").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    spoiled = factors(5)
    site = next(iter(spoiled))
    spoiled[site] = replace(spoiled[site], up=np.full_like(spoiled[site].up, np.nan))
    write_kohya(spoiled, place / "nan.safetensors")
    write_kohya(factors(6, ends=("q_proj", "v_proj")), place / "text-only.safetensors")
    save_file({"a.weight": np.zeros((4, 4), np.float32)}, place / "other.safetensors")
    (folder / good[1] / "photos" / "0.png").write_bytes(b"no picture")
    for photo in (folder / good[2] / "photos").iterdir():
        photo.write_bytes(b"no picture")
    (folder / good[3] / "prompt.txt").write_bytes(b"\xff\xfe\x00")
    people, left_out = gathered(folder, tmp_path / "zoo")
    named = {line.split(": ")[0]: line for line in left_out}
    assert named.keys() == {
        *(f"{good[0]}/{name}" for name in (
            "cut.safetensors", "words.safetensors", "evil.pt", "nan.safetensors", "text-only.safetensors",
            "other.safetensors",
        )),
        f"{good[2]}/0.safetensors", f"{good[3]}/0.safetensors",
    }  # fmt: skip
    assert "not a safetensors file" in named[f"{good[0]}/evil.pt"]
    assert "leaves the UNet alone" in named[f"{good[0]}/text-only.safetensors"]
    assert (
        "no photo" in named[f"{good[2]}/0.safetensors"] and "prompt.txt" in named[f"{good[3]}/0.safetensors"]
    )
    assert not (tmp_path / "pwned").exists() and all("\n" not in line for line in left_out)
    kept = [name for name in good if name not in (good[2], good[3])]
    zoos = open_varied(tmp_path / "zoo")
    assert sorted(people.names[m.identity] for zoo in zoos for m in zoo.members) == sorted(kept)
    # Of a broken photo the next one is taken.
    assert len(people.pictures(people.names.index(good[1]), 64)) == 1


def test_a_zoo_has_the_matrices_of_the_files_and_the_prompts_beside_them(tmp_path: Path) -> None:
    folder = tmp_path / "loras"
    for number in range(1, 9):
        add_person(folder, f"p{number}", loras=2, rank=1 + number % 2)
    people, left_out = gathered(folder, tmp_path / "zoo")
    assert left_out == ()
    zoos = open_varied(tmp_path / "zoo")
    assert {zoo.plan.recipe.rank for zoo in zoos} == {1, 2}
    compared = 0
    for zoo in zoos:
        assert (zoo.base, zoo.plan.data, zoo.plan.snapshots) == (
            fingerprint(embedded()),
            people.name,
            (40,),
        )
        for member in zoo.members:
            assert member.prompt == "A face of x."
            terms = zoo.rows([(member.index, 40)])
            own = [stack([load_lora(folder / file)]) for file in people.loras[people.names[member.identity]]]
            assert any(
                terms.keys() == one.keys() and all(torch.equal(terms[s][0], one[s][0]) for s in one)
                for one in own
            )
            compared += 1
    assert compared == 2 * len(trained(people))
    # Everybody's LoRAs are on one side: of the split, and of each regression's people.
    assert {people.names[m.identity] for zoo in zoos for m in zoo.members} == set(trained(people))
    folds = _folds(zoos).tolist()
    owners = [member.identity for zoo in zoos for member in zoo.members]
    assert len(set(zip(owners, folds, strict=True))) == len(set(owners)) and max(folds) < FOLDS


def test_an_interrupted_gathering_ends_with_the_same_files(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "loras"
    for number in range(1, 8):
        add_person(folder, f"p{number}", rank=1 + number % 2)
    (folder / "p1" / "bad.safetensors").write_bytes(b"x")
    gathered(folder, tmp_path / "whole")
    read = []

    def counted(target, **more):
        read.append(target)
        if len(read) == 4:
            raise KeyboardInterrupt
        return load_lora(target, **more)

    monkeypatch.setattr(public, "load_lora", counted)
    with pytest.raises(KeyboardInterrupt):
        gathered(folder, tmp_path / "parts")
    assert open_varied(tmp_path / "parts") == [], "half a zoo is none"
    _, left_out = gathered(folder, tmp_path / "parts")
    assert bytes_of(tmp_path / "parts") == bytes_of(tmp_path / "whole")
    before = len(read)
    assert gathered(folder, tmp_path / "parts")[1] == left_out and len(read) == before
    shutil.copy(folder / "p2" / "0.safetensors", folder / "p2" / "1.safetensors")
    with pytest.raises(LorauditError, match="LoRAs of another folder"):
        gathered(folder, tmp_path / "parts")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").touch()
    with pytest.raises(LorauditError, match="holds other files"):
        gathered(folder, tmp_path / "mine")


def test_a_round_has_as_many_samples_of_a_zoo_as_it_has_loras(tmp_path: Path) -> None:
    folder = tmp_path / "loras"
    for number in range(1, 11):
        add_person(folder, f"p{number}", loras=1, rank=1 if number == 1 else 2)
    people, _ = gathered(folder, tmp_path / "zoo")
    base, zoos = embedded(), open_varied(tmp_path / "zoo")
    sizes = [len(zoo.members) for zoo in zoos]
    assert min(sizes) == 1 < max(sizes)
    source = VariedSource([ZooSource.of(zoo, Latents(base, people), 0, 1) for zoo in zoos], 0)
    drawn = source.samples(0, 0)
    ranks = [next(iter(next(drawn).terms.values()))[0].shape[2] for _ in range(2 * sum(sizes))]
    assert ranks.count(1) == 2 and ranks.count(2) == 2 * max(sizes)
    # A stream that begins later goes on alike.
    rest = source.samples(sum(sizes), 0)
    assert [next(iter(next(rest).terms.values()))[0].shape[2] for _ in sizes * 2] == ranks[sum(sizes) :][
        : 2 * len(sizes)
    ]


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["loraudit", "train-encoder", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, capsys.readouterr().err

    return call


def test_train_encoder_from_public_loras(run, tmp_path: Path) -> None:
    folder = tmp_path / "loras"
    for number in range(1, 6):
        add_person(folder, f"p{number}", prompt="")
    first = trained(open_public(folder))[0]
    (folder / first / "bad.safetensors").write_bytes(b"x")
    words = ("--from", folder, "--zoo", tmp_path / "zoo", "--steps", 2, "--loras", 2, "--device", "cpu")
    code, stderr = run(*words, "-o", tmp_path / "paper")
    assert code == 0, stderr
    assert "1 LoRAs were left out:" in stderr and f"{first}/bad.safetensors: " in stderr
    base = embedded()
    _, checkpoint = load_encoder(
        tmp_path / "paper", frozen_transformer(base.text_encoder), base.embedding_shape[0]
    )
    assert (checkpoint.training["files"], checkpoint.training["people"]) == (
        len(trained(open_public(folder))),
        len(trained(open_public(folder))),
    )
    assert str(folder) not in (tmp_path / "paper" / "CARD.md").read_text()
    code, stderr = run(*words, "-o", tmp_path / "probe", "--arch", "probe")
    assert code == 2 and "prompts of the LoRAs are not known" in stderr

    for number in range(1, 6):
        (folder / f"p{number}" / "prompt.txt").write_text(f"A face of n{number}.")
    words = ("--from", folder, "--zoo", tmp_path / "other", *words[4:])
    code, stderr = run(*words, "-o", tmp_path / "probe", "--arch", "probe")
    assert code == 0, stderr
    assert json.loads((tmp_path / "probe" / "config.json").read_text())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "name a new folder for it with --zoo"),
        (("--zoo", "zoo", "--data", "folders:x"), "leave out --data"),
        (("--zoo", "zoo", "--lora-rank", 4), "leave out options of their training"),
        (("--zoo", "zoo", "--people", 99), "identities to train on, not 99"),
    ],
)
def test_train_encoder_from_refuses(more, message, run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    add_person(tmp_path / "loras", "p1")
    add_person(tmp_path / "loras", "p2")
    monkeypatch.delattr("loraudit.training.encoder_job.training_base")
    code, stderr = run("--from", "loras", "-o", "out", *more)
    assert code == 2 and message in stderr
    assert not (tmp_path / "out").exists() and not (tmp_path / "zoo").exists()


def test_loras_of_several_shapes_need_the_probe(run, tmp_path: Path) -> None:
    for number in range(1, 9):
        add_person(tmp_path / "loras", f"p{number}", rank=1 + number % 2)
    words = (
        "--from",
        tmp_path / "loras",
        "--zoo",
        tmp_path / "zoo",
        "--steps",
        1,
        "--loras",
        1,
        "-o",
        tmp_path / "out",
    )
    code, stderr = run(*words)
    assert code == 2 and "take --arch probe" in stderr


def test_zoos_of_no_repeated_people_keep_their_folds() -> None:
    zoos = [_zoo_of(range(10)), _zoo_of(range(10, 14))]
    assert _folds(zoos).tolist() == [at % FOLDS for at in range(14)]


def _zoo_of(people) -> Zoo:
    from loraudit.training.finetune import TINY
    from loraudit.training.zoo_plan import Plan, members_of

    plan = Plan(tuple(people), TINY, (1,))
    return Zoo(Path(), plan, members_of(plan))
