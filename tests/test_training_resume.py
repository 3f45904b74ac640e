"""A training goes on from a sound checkpoint of its own alone; anything else is one clear line."""

import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from loraudit.errors import LorauditError
from loraudit.training.runs import Training, load_checkpoint
from loraudit.training.train_encoder import train_encoder
from tests.encoder_training import SETTINGS, model_of, source_of, zoo_in
from tests.tiny import tiny_base


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    return zoo_in(tmp_path_factory.mktemp("zoo") / "zoo")


@pytest.fixture(scope="module")
def begun(zoo, tmp_path_factory) -> Path:
    """A training that stopped after the fourth of ten updates."""
    folder = tmp_path_factory.mktemp("begun") / "encoder"
    train(zoo, folder, until=4)
    return folder


@pytest.fixture
def folder(begun, tmp_path) -> Path:
    return shutil.copytree(begun, tmp_path / "encoder")


def train(zoo, folder: Path, until: int | None = None) -> None:
    train_encoder(tiny_base(), source_of("zoo", zoo), model_of("constant"), SETTINGS, folder, until=until)


class Bomb:
    """A pickle that makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


def refused(zoo, folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(LorauditError) as caught:
        train(zoo, folder)
    assert (caught.value.exit_code, "\n" in str(caught.value)) == (2, False)
    assert "damaged" in str(caught.value) and caught.value.hint
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    "kind",
    ["empty", "cut", "junk", "pickle", "old pickle", "folder", "pipe", "dead link", "a tensor", "a list"],
)
def test_a_file_that_is_no_checkpoint(kind: str, zoo, folder: Path, tmp_path: Path) -> None:
    path = folder / "checkpoint.pt"
    whole = path.read_bytes()
    path.unlink()
    if kind == "empty":
        path.touch()
    elif kind == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "junk":
        path.write_bytes(os.urandom(5000))
    elif kind == "pickle":
        torch.save({"config": Bomb(tmp_path / "ran")}, path)
    elif kind == "old pickle":
        path.write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "dead link":
        path.symlink_to("nowhere")
    else:
        torch.save(torch.zeros(3) if kind == "a tensor" else [1, 2], path)
    refused(zoo, folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config", None), ("config", {}), ("step", "4"), ("step", -1), ("step", 4.5), ("step", None),
        ("seconds", "long"), ("seconds", float("nan")), ("seconds", -1.0), ("seconds", None),
        ("recent", 3), ("recent", [1, 2]), ("recent", [[float("nan"), 0.0]]), ("recent", [["a", "b"]]),
        ("model", None), ("model", {}), ("model", []), ("model", {"mean": torch.zeros(1)}),
        ("optimizer", None), ("optimizer", {}), ("optimizer", {"state": {}, "param_groups": []}),
        ("optimizer", {"state": {}, "param_groups": [{"params": [0, 1], "betas": "x"}]}),
    ],
    ids=str,
)  # fmt: skip
def test_a_checkpoint_without_what_a_training_needs(key: str, value: object, zoo, folder: Path) -> None:
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    for changed in ({**state, key: value}, {name: kept for name, kept in state.items() if name != key}):
        torch.save(changed, folder / "checkpoint.pt")
        refused(zoo, folder)


@pytest.mark.parametrize("kind", ["model", "moment", "infinite", "shape", "missing", "betas"])
def test_a_checkpoint_of_unsound_numbers(kind: str, zoo, folder: Path) -> None:
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    moments = state["optimizer"]["state"][0]
    if kind == "model":
        next(iter(state["model"].values())).view(-1)[0] = torch.nan
    elif kind == "moment":
        moments["exp_avg"].view(-1)[0] = torch.nan
    elif kind == "infinite":
        moments["exp_avg_sq"].view(-1)[0] = torch.inf
    elif kind == "shape":
        moments["exp_avg"] = torch.zeros(1, 2, 3)
    elif kind == "missing":
        del moments["exp_avg_sq"]
    else:
        state["optimizer"]["param_groups"][0]["betas"] = ("a", "b")
    torch.save(state, folder / "checkpoint.pt")
    refused(zoo, folder)


@pytest.mark.parametrize(
    "text",
    ["{\n", "\xff\n", "[]\n", "3\n", '{"loss": 1}\n', '{"step": "a"}\n', "[" * 100_000 + "\n"],
    ids=repr,
)
def test_damaged_metrics(text: str, zoo, folder: Path) -> None:
    (folder / "metrics.jsonl").write_bytes(text.encode("latin-1"))
    with pytest.raises(LorauditError, match=r"metrics\.jsonl in encoder is damaged"):
        train(zoo, folder)


def test_a_pipe_in_the_place_of_the_record_or_the_metrics(zoo, folder: Path) -> None:
    for name in ("metrics.jsonl", "run.json"):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        with pytest.raises(LorauditError, match="is damaged"):
            train(zoo, folder)
        (folder / name).unlink()


def test_the_sound_checkpoint_goes_on(zoo, folder: Path, tmp_path: Path) -> None:
    """The control: what the tests above spoil is taken up as it was, to the same bits."""
    train(zoo, folder)
    train(zoo, tmp_path / "whole")
    ends = [torch.load(place / "checkpoint.pt", weights_only=True) for place in (folder, tmp_path / "whole")]
    assert ends[0]["step"] == ends[1]["step"] == SETTINGS.steps
    for name, value in ends[0]["model"].items():
        assert torch.equal(value, ends[1]["model"][name])


def test_other_trainings_read_their_checkpoint_as_strictly(tmp_path: Path) -> None:
    run = Training(tmp_path, {})
    assert run.load() is None
    run.save({"model": torch.zeros(2)})
    state = run.load()
    assert state is not None and torch.equal(state["model"], torch.zeros(2))
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 junk")
    with pytest.raises(LorauditError, match="damaged"):
        run.load()
    with pytest.raises(LorauditError, match="damaged"):
        load_checkpoint(tmp_path)
