"""Every test runs from one seed, offline, on LoRAs made up here."""

import math
import os
import random
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import hub as fake
import numpy as np
import pytest
from hypothesis import settings

from loraudit.lora import Factors, Site, write_kohya
from loraudit.lora.layouts.topology import topologies

# Options that somebody set for scans of their own.
for _twin in [name for name in os.environ if name.startswith("LORAUDIT_")]:
    del os.environ[_twin]
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
# What trainings keep must not be found by the next run; matplotlib's list of fonts may.
_KEPT = tempfile.TemporaryDirectory(prefix="loraudit-tests-")
os.environ.setdefault(
    "MPLCONFIGDIR", str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "matplotlib")
)
os.environ["XDG_CACHE_HOME"] = _KEPT.name
# Nor must a calibration that somebody made on this machine.
os.environ["XDG_DATA_HOME"] = _KEPT.name
# Scans of the same file at another time end in the same bytes.
os.environ["SOURCE_DATE_EPOCH"] = "1800000000"

# A shell starts its background jobs with Ctrl-C ignored, and so would be the processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# So do those that outlive a terminal, with the signal that it is gone.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A busy machine is no failure, and a failure must come back on the next run.
settings.register_profile("loraudit", deadline=None, derandomize=True, database=None)
settings.load_profile("loraudit")

SD1_SITES = (
    "text_encoder.encoder.layers.0.self_attn.q_proj",
    "text_encoder.encoder.layers.11.mlp.fc2",
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v",
    "unet.down_blocks.0.resnets.0.conv1",
    "unet.down_blocks.1.attentions.0.proj_in",
    "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0",
    "unet.up_blocks.3.attentions.2.transformer_blocks.0.ff.net.0.proj",
)
"""One module of every kind: text tower, self and cross attention, 3x3 and 1x1 convolution, feed-forward."""


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Sums in another number of threads end in other bits; a script that sets the number sets it for all."""
    threads = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    yield
    if threads is not None:
        sys.modules["torch"].set_num_threads(threads)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def make_factors(rng: np.random.Generator) -> Callable[..., dict[Site, Factors]]:
    """Random factors of the sizes that a base has at some sites, of the ranks in turn."""

    def make(base: str, sites: Sequence[Site], ranks: Sequence[int] = (2, 3)) -> dict[Site, Factors]:
        shapes = next(topology.shapes for topology in topologies() if topology.base == base)
        factors = {}
        for index, site in enumerate(sites):
            rank = ranks[index % len(ranks)]
            up = rng.standard_normal((shapes[site][0], rank), dtype=np.float32)
            down = rng.standard_normal((rank, math.prod(shapes[site][1:])), dtype=np.float32)
            factors[site] = Factors(up, down, 1.0)
        return factors

    return make


@pytest.fixture
def sd1_factors(make_factors) -> dict[Site, Factors]:
    """A LoRA for SD 1.x with one module of every kind."""
    return make_factors("sd15", SD1_SITES)


@pytest.fixture
def scan(monkeypatch, capsys):
    """Run `loraudit scan` in this process: exit code, stdout, stderr."""

    from loraudit.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["loraudit", "scan", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return int(stop.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def hub(monkeypatch, tmp_path: Path) -> Iterator[fake.Hub]:
    from huggingface_hub import close_session, constants

    with fake.serving() as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", fake.TOKEN)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.chdir(tmp_path)
        close_session()
        yield served
        close_session()


@pytest.fixture
def kohya(tmp_path: Path, sd1_factors) -> bytes:
    write_kohya(sd1_factors, tmp_path / "made.safetensors")
    return (tmp_path / "made.safetensors").read_bytes()
