"""Each layout of SD 1.x LoRA files, read by loraudit, loaded by stock diffusers and scanned by AdapterSentry.

python -m benchmarks.tables.layout_table [--adaptersentry PATH]
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.numpy import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks.tables.layout_cases import Case, cases
from loraudit.cli.failures import in_one_line
from loraudit.errors import LorauditError
from loraudit.lora import Factors, Site, load_lora
from loraudit.lora.dora import resolve
from loraudit.text import clean

__all__ = ["Outcome", "layout_table", "markdown"]

_Reader: TypeAlias = Callable[[Path, Case], Mapping[Site, Factors]]

RIGHT: Final = "right"
TOLERANCE: Final = 1e-4
"""Largest norm of an update's error, relative to the update's norm."""


@dataclass(frozen=True)
class Outcome:
    """Result of one file."""

    layout: str
    ours: str
    """Result of loraudit: `right`, or the fault."""
    read: str
    """Modules that loraudit read, and modules in the file: `4 of 4`."""
    diffusers: str
    """Result of diffusers: `right`, or the fault."""
    adaptersentry: str | None = None
    """Words of AdapterSentry's report; None if it was not run."""


def layout_table(adaptersentry: Path | None = None) -> Iterator[Outcome]:
    """Yield the measured rows, with AdapterSentry's report if its executable is given."""
    for case in cases():
        with TemporaryDirectory() as folder:
            path = Path(folder) / "x.safetensors"
            save_file(case.tensors, path, dict(case.metadata))
            ours, read = _judge(_ours, path, case)
            theirs, _ = _judge(_stock, path, case)
            said = None if adaptersentry is None else _scanned(adaptersentry, path)
            yield Outcome(case.name, ours, f"{read} of {len(case.updates)}", theirs, said)


def markdown(rows: Sequence[Outcome]) -> str:
    """Write the table, ready for docs."""
    heads = ["Layout", "loraudit", "modules read", "diffusers"]
    table = [[row.layout, row.ours, row.read, row.diffusers] for row in rows]
    if any(row.adaptersentry for row in rows):
        heads.append("AdapterSentry")
        table = [[*cells, row.adaptersentry or ""] for cells, row in zip(table, rows, strict=True)]
    lines = [heads, ["---"] * len(heads), *table]
    text = (
        "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        .replace("| --- ", "|---")
        .replace("--- |", "---|")
    )
    return f"{text}\n\ndiffusers {version('diffusers')}, peft {version('peft')}"


def _judge(read: _Reader, path: Path, case: Case) -> tuple[str, int]:
    """Judge a reader in words; return also how many modules were read."""
    try:
        found = read(path, case)
    except (LorauditError, ValueError, RuntimeError, KeyError) as error:
        return f"error ({type(error).__name__})", 0
    if not found:
        return "loads nothing, no error", 0
    good = sum(site in found and _equal(found[site], own) for site, own in case.updates.items())
    right = good == len(case.updates) == len(found)
    return RIGHT if right else f"wrong update, no error ({good} of {len(case.updates)} right)", len(found)


def _equal(found: Factors, own: Factors) -> bool:
    if found.shape != own.shape:
        return False
    error = Factors(np.hstack([found.up, -own.up]), np.vstack([found.down, own.down]), 1.0)
    return error.frobenius() <= TOLERANCE * own.frobenius()


def _ours(path: Path, case: Case) -> Mapping[Site, Factors]:
    return resolve(load_lora(path), case.weights).factors


def _stock(path: Path, case: Case) -> Mapping[Site, Factors]:
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
        size = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
        text = CLIPTextModel(CLIPTextConfig(**size, num_hidden_layers=1))
    # peft puts its matrices on the device of the layer's weight, so the adapted blocks need real memory;
    # transformers puts the matrices on the device of the network's first weight.
    unet.get_submodule("down_blocks.0").to_empty(device="cpu")
    text.to_empty(device="cpu")
    for site, weight in case.weights.items():
        unet.get_submodule(site.removeprefix("unet.")).weight.data = torch.from_numpy(weight)
    pipeline = StableDiffusionPipeline(
        None, text, None, unet, None, None, None, requires_safety_checker=False
    )
    pipeline.load_lora_weights(path.parent, weight_name=path.name)
    found = {}
    for component, network in (("unet", unet), ("text_encoder", text)):
        for name, layer in network.named_modules():
            if hasattr(layer, "get_delta_weight"):
                (adapter,) = layer.active_adapters
                delta = layer.get_delta_weight(adapter)
                # A matrix that was never given a value is still without memory.
                delta = torch.zeros(delta.shape) if delta.is_meta else delta.detach()
                matrix = delta.flatten(1).numpy()
                site = f"{component}.{name.removeprefix('text_model.')}"
                found[site] = Factors(np.eye(len(matrix), dtype=np.float32), matrix, 1.0)
    return found


def _scanned(program: Path, path: Path) -> str:
    """Summarize AdapterSentry's report in its own terms."""
    command = [str(program), "scan", str(path), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603
    try:
        report: Any = json.loads(done.stdout)
        coverage, verdict = report["coverage"], report["verdict"]["action"]
        if report["status"] == "failed":
            said = f"not analysed ({report['errors'][0]['code']}), verdict {verdict}"
        else:
            said = f"{coverage['n_modules_analyzed']} of {coverage['n_modules']} modules analysed"
            if coverage["n_not_analyzed"]:
                said += f", {coverage['n_not_analyzed']} tensors not"
            said += f", verdict {verdict}"
    except (ValueError, KeyError, IndexError, TypeError):
        return f"no report (exit code {done.returncode})"
    return clean(said, 100)


def _version(program: Path) -> str:
    command = [str(program), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    return clean(done.stdout.strip(), 60)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--adaptersentry", type=Path, help="executable of AdapterSentry, whose report becomes a column"
    )
    program = parser.parse_args().adaptersentry
    versions = f", {_version(program)}" if program else ""
    rows = []
    for row in layout_table(program):
        sys.stderr.write(f"{row}\n")
        rows.append(row)
    sys.stdout.write(f"{markdown(rows)}{versions}.\n")


if __name__ == "__main__":
    in_one_line(main)
