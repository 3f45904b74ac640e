"""The files of a finished training of an encoder: the encoder, and a card on how the encoder was made."""

import io
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loraudit.encoder.checkpoint import Encoder, save_encoder
from loraudit.encoder.constant import ConstantEmbedding
from loraudit.encoder.paper import FrozenTransformer, PaperEncoder
from loraudit.encoder.probe import ProbeEncoder
from loraudit.files import write_atomic

__all__ = ["finish", "shown_command"]


def finish(
    folder: Path,
    model: Encoder | ConstantEmbedding,
    frozen: FrozenTransformer,
    base: str,
    training: Mapping[str, Any],
    command: Sequence[str],
) -> None:
    """Write the encoder (or `embedding.npy`, float32 `[L, d]`) and `CARD.md`, and delete the checkpoint."""
    if not isinstance(model, ConstantEmbedding):
        save_encoder(folder, model, frozen, base=base, training=training)
    else:
        data = io.BytesIO()
        np.save(data, model.mean.detach().float().cpu().numpy())
        write_atomic(folder / "embedding.npy", data.getvalue())
    write_atomic(folder / "CARD.md", _card(folder, model, base, training, command).encode())
    (folder / "checkpoint.pt").unlink(missing_ok=True)


def shown_command(arguments: Sequence[str]) -> str:
    """Quote the command line without this machine's folders: an absolute path keeps only its last part."""
    return shlex.join([re.sub(r"(^|[:=])/\S*", lambda m: m[1] + Path(m[0]).name, word) for word in arguments])


def _card(
    folder: Path,
    model: Encoder | ConstantEmbedding,
    base: str,
    training: Mapping[str, Any],
    command: Sequence[str],
) -> str:
    size = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if isinstance(model, PaperEncoder):
        config = model.config
        what = (
            f"The matrix encoder of arXiv 2409.08482 for LoRAs on the base `{base}`: it reads the matrices "
            f"of {len(config.sites)} UNet modules at rank {config.rank} and answers with an embedding "
            f"[{config.length}, {config.width}] that stands in for the prompt. {size:,} trained parameters; "
            "the text transformer behind them is the base's own, frozen. "
            + (
                "A token says how many fine-tuning steps a LoRA has had."
                if config.timestep
                else "It is not told how many fine-tuning steps a LoRA has had and has only seen finished "
                "LoRAs (ablation)."
            )
        )
        limit = (
            f"It fits this base, rank {config.rank} and these modules only, and LoRAs made by recipes like "
            "the one above. Its loss says how well the embedding explains the training pictures, not whether "
            "a person comes back: that is for the attack table."
        )
    elif isinstance(model, ProbeEncoder):
        shape = model.config
        what = (
            f"The probe encoder for LoRAs on the base `{base}`: it reads any rank and any subset of the "
            f"{len(shape.sites)} modules of the UNet's attention blocks, through {shape.probes} probes on "
            "each side of an update, and answers the same whichever factors a file holds. From the updates' "
            "directions a ridge regression reads the face vector of the person; a small network turns that "
            f"into an embedding [{shape.length}, {shape.embedding}] that stands in for the prompt: a learned "
            f"constant plus what was read. {size:,} parameters of that network were trained."
        )
        limit = (
            "It fits this base only. Its loss says how well the embedding explains the training pictures, "
            "not whether a person comes back: that is for the attack table."
        )
    else:
        what = (
            f"One embedding for every LoRA on the base `{base}`, learned without reading any: the baseline "
            "that an encoder has to beat, trained with the same samples, seeds and budget. "
            f"{size:,} trained parameters."
        )
        limit = "It reads no weights, so whatever it shows of a person comes from the tuned base."
    lines = [f"# {folder.resolve().name}", "", what, "", "| trained with | |", "|---|---|"]
    lines += [f"| {key.replace('_', ' ')} | {_cell(value)} |" for key, value in training.items()]
    metrics = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
    lines += ["", f"Command: `loraudit {shown_command(command)}`", ""]
    if rows:
        tail = rows[-max(1, len(rows) // 5) :]
        lines += [
            f"Noise prediction error: {rows[0]['loss']:.4f} over the first {rows[0]['step']} updates, "
            f"{np.mean([row['loss'] for row in tail]):.4f} over the last fifth; KL "
            f"{rows[-1]['kl']:.3f} nats per entry; {rows[-1]['seconds'] / 60:.0f} minutes.",
            "",
            "![loss](loss.png)",
            "",
        ]
    return "\n".join([*lines, f"**Limits.** {limit}", ""])


def _cell(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {_cell(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        if value and all(isinstance(part, Mapping) for part in value):
            return f"{len(value)}, all of them in `run.json`"
        return " ".join(str(part) for part in value) or "none"
    return str(value)
