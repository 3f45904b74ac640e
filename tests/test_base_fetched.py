"""A base from the Hub: what is in the cache needs no network; a missing network is asked once."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread

import hub as fake
import pytest
import torch

from loraudit.base import source
from loraudit.base.load import NoBase, load_base
from loraudit.cards import PIPELINE, base_card, is_fetchable, models_dir
from loraudit.errors import Incomplete
from loraudit.scores.clip import openai_clip_weights

OWN_CALLS = 1
"""Requests that the Hub's client makes of its own before the first of ours."""


@pytest.fixture
def nobody(hub: fake.Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A Hub that hangs up on whoever calls: the times of the calls."""
    with hanging_up() as (hub.url, calls):
        lead_to(hub.url, monkeypatch)
        yield calls


@contextmanager
def hanging_up() -> Iterator[tuple[str, list[float]]]:
    calls: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    caller, _ = server.accept()
                except OSError:
                    return
                calls.append(time.monotonic())
                caller.close()

        Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", calls
        server.shutdown(socket.SHUT_RDWR)


def lead_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import close_session, constants

    close_session()
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base of the list whose files, those of `tiny`, are in the cache of the Hub."""
    card = replace(base_card("tiny"), name="sd14", where="ns/name", revision=fake.COMMIT, hashes={})
    monkeypatch.setattr(source, "base_card", lambda _name: card)
    snapshot = tmp_path / "cache" / "models--ns--name" / "snapshots" / fake.COMMIT
    for path in (models_dir() / "tiny-sd").rglob("*.*"):
        copy = snapshot / path.relative_to(models_dir() / "tiny-sd")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(path)
    return snapshot


@pytest.mark.usefixtures("cached")
def test_what_was_fetched_needs_no_network(nobody: list[float]) -> None:
    base, own = load_base("sd14"), load_base(str(models_dir() / "tiny-sd"))
    assert nobody == []
    state = own.unet.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in base.unet.state_dict().items())


@pytest.mark.parametrize("lacks", PIPELINE)
def test_part_of_a_base_is_no_base(nobody: list[float], cached: Path, lacks: str) -> None:
    (cached / lacks).unlink()
    (cached / "tokenizer" / "tokenizer.json").unlink()  # SD 1.x has none
    with pytest.raises(NoBase, match="--offline is set"):
        load_base("sd14", offline=True)
    assert nobody == []
    with pytest.raises(NoBase, match="it cannot be fetched"):
        load_base("sd14")
    assert 1 <= len(nobody) <= OWN_CALLS + 1


@pytest.mark.parametrize("what", ["base", "CLIP"])
def test_the_first_failure_counts_for_every_part(what: str, nobody: list[float]) -> None:
    started = time.monotonic()
    if what == "base":
        with pytest.raises(NoBase):
            load_base("sd14")
    else:
        with pytest.raises(Incomplete, match="CLIP ViT-L/14 is not on this machine"):
            openai_clip_weights(offline=False)
    assert 1 <= len(nobody) <= OWN_CALLS + 1
    # The client's own six tries take 23 s.
    assert time.monotonic() - started < 15


def test_a_hub_that_answers_is_left_to_its_client(hub: fake.Hub) -> None:
    """The control: whatever the answer, the client explains it better."""
    hub.files = {"here": b"x"}
    assert is_fetchable("ns/name", ("here",)) and is_fetchable("ns/name", ("gone",))
    assert is_fetchable("ns/other", ("here",))
    hub.status = 503
    assert is_fetchable("ns/name", ("here",))
