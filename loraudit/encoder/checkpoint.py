"""Encoders on disk: a folder with `model.safetensors` (the encoder's own weights) and `config.json`.

The folder does not hold the frozen text transformer, which comes with the base; `frozen_sha256` names the one
the encoder needs. Nothing is ever unpickled.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, TypeAlias

import safetensors.torch
import torch
from safetensors import SafetensorError

from loraudit.cards import artefact
from loraudit.encoder.paper import FrozenTransformer, PaperEncoder, PaperEncoderConfig
from loraudit.encoder.probe import ProbeEncoder, ProbeEncoderConfig
from loraudit.errors import LorauditError
from loraudit.files import read_within, replacing
from loraudit.lora.matrices import LoRA
from loraudit.text import clean

__all__ = [
    "CheckpointError",
    "DoesNotFit",
    "Encoder",
    "EncoderCheckpoint",
    "load_encoder",
    "read_checkpoint",
    "save_encoder",
]

Encoder: TypeAlias = PaperEncoder | ProbeEncoder

SCHEMA: Final = "loraudit.encoder/1"
WEIGHTS: Final = "model.safetensors"
CONFIG: Final = "config.json"
_LARGEST_CONFIG: Final = 16_000_000
"""Limit in bytes; the largest that ships has 62 kB."""
_LARGEST_WEIGHTS: Final = 1 << 33
"""Limit in bytes; the paper's encoder for SD 1.x has a few hundred MB."""

_FIELDS: Final[Mapping[str, type]] = {
    "schema": str, "kind": str, "base": str, "frozen_sha256": str, "weights_sha256": str, "encoder": dict,
    "training": dict,
}  # fmt: skip

_KINDS: Final[Mapping[str, type[PaperEncoderConfig] | type[ProbeEncoderConfig]]] = {
    "paper": PaperEncoderConfig,
    "probe": ProbeEncoderConfig,
}


class CheckpointError(LorauditError):
    """Encoder folder that is missing, broken or not an encoder. Exit code 2."""


class DoesNotFit(CheckpointError):
    """Sound encoder for another base or another kind of LoRA, so the attack cannot run. Exit code 4."""

    exit_code: ClassVar[int] = 4


@dataclass(frozen=True)
class EncoderCheckpoint:
    """Description of an encoder, from `config.json`."""

    folder: Path
    name: str
    """Name of the folder, escaped for display."""
    sha256: str
    """Hash of the weights, hex."""
    base: str
    """Base of the training, escaped for display."""
    frozen_sha256: str
    """Hash of that base's text transformer (`FrozenTransformer.fingerprint`)."""
    config: PaperEncoderConfig | ProbeEncoderConfig
    training: Mapping[str, Any]
    """Settings of the training, as the trainer wrote them; raw, to be shown through `clean` only."""

    def check_fits(self, lora: LoRA) -> None:
        """Raise `DoesNotFit` unless the encoder can read `lora`.

        A probe encoder needs at least one of its sites, whatever the rank. A paper encoder needs all of its
        sites, at its rank. Both need the shapes of their sites.
        """
        if isinstance(self.config, PaperEncoderConfig):
            self._check_complete(lora, self.config.rank)
        elif not any(site in lora.factors for site, _, _ in self.config.sites):
            raise DoesNotFit(
                f"encoder {self.name} reads none of the modules of {lora.file.name}",
                f"the LoRA belongs to another base than {self.base}; give its own with --base",
            )
        for site, *shape in self.config.sites:
            factors = lora.factors.get(site)
            if factors is not None and factors.shape != tuple(shape):
                raise DoesNotFit(
                    f"encoder {self.name} reads {clean(site)} of shape {tuple(shape)}, "
                    f"{lora.file.name} has {factors.shape}",
                    f"the LoRA belongs to another base than {self.base}; give its own with --base",
                )

    def _check_complete(self, lora: LoRA, rank: int) -> None:
        """Raise `DoesNotFit` unless `lora` has all sites of the encoder, at `rank`."""
        found = {site: lora.factors.get(site) for site, _, _ in self.config.sites}
        missing = [site for site, factors in found.items() if factors is None]
        if missing:
            raise DoesNotFit(
                f"encoder {self.name} reads {len(found)} modules; {lora.file.name} lacks {len(missing)} of "
                f"them, such as {clean(missing[0])}",
                "use an encoder trained for the modules that 'loraudit inspect' lists, or --attack prompts",
            )
        ranks = sorted({factors.rank for factors in found.values() if factors is not None})
        if ranks != [rank]:
            raise DoesNotFit(
                f"encoder {self.name} reads rank {rank}, {lora.file.name} has rank "
                f"{' to '.join(str(rank) for rank in sorted({ranks[0], ranks[-1]}))}",
                "use an encoder trained for this rank (loraudit train-encoder), or --attack prompts",
            )

    def check_base(self, frozen: FrozenTransformer, length: int) -> None:
        """Raise `DoesNotFit` unless the encoder was made for this transformer and length `L`."""
        hint = f"choose the base {self.base} with --base, or an encoder trained on this base"
        width = self.config.width if isinstance(self.config, PaperEncoderConfig) else self.config.embedding
        wanted, given = [self.config.length, width], [length, frozen.shape.width]
        if wanted != given:
            raise DoesNotFit(f"encoder {self.name} makes embeddings {wanted}, the base reads {given}", hint)
        other = isinstance(self.config, PaperEncoderConfig) and frozen.shape != self.config.text
        if other or frozen.fingerprint() != self.frozen_sha256:
            raise DoesNotFit(
                f"encoder {self.name} was trained with another text encoder, that of {self.base}",
                hint,
            )


def save_encoder(
    folder: Path,
    encoder: Encoder,
    frozen: FrozenTransformer,
    *,
    base: str,
    training: Mapping[str, Any] | None = None,
) -> EncoderCheckpoint:
    """Write `encoder`, trained on the base named `base`, into `folder`; other files there stay.

    `frozen` is the base's text transformer, which the encoder is bound to. `training` is any JSON object.
    Both files are written whole under other names, then renamed. After a cut between the two renames
    `load_encoder` refuses the folder. Raises `CheckpointError` if the folder cannot be written or a weight is
    not finite.
    """
    # A probe encoder's millions of coefficients need no more digits than float16 has.
    dtype = torch.float32 if isinstance(encoder, PaperEncoder) else torch.float16
    state = {
        name: value.detach().to("cpu", dtype).contiguous() for name, value in encoder.own_state().items()
    }
    bad = [name for name, value in state.items() if not value.isfinite().all()]
    if bad:
        raise CheckpointError(
            f"the encoder's {bad[0]} holds NaN or infinite values", "train with a smaller learning rate"
        )
    weights = safetensors.torch.save(state)
    values = {
        "schema": SCHEMA,
        "kind": "paper" if isinstance(encoder, PaperEncoder) else "probe",
        "base": base,
        "frozen_sha256": frozen.fingerprint(),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "encoder": encoder.config.to_json(),
        "training": dict(training or {}),
    }
    text = json.dumps(values, indent=2, allow_nan=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / WEIGHTS, folder / CONFIG) as (new_weights, new_config):
            new_weights.write_bytes(weights)
            new_config.write_bytes(text.encode())
    except OSError as error:
        raise CheckpointError(
            f"cannot write the encoder to {clean(str(folder))}: {error.strerror}",
            "choose another folder or free some space",
        ) from None
    return read_checkpoint(folder)


def read_checkpoint(where: str | Path) -> EncoderCheckpoint:
    """Describe the encoder in the folder `where`, or the one that ships as `models/<where>`.

    Raises `CheckpointError` if the folder holds no encoder, `LorauditError` if there is neither.
    """
    folder = Path(where)
    if not folder.is_dir():
        folder = artefact(str(where))
    name = clean(folder.resolve().name)
    try:
        values = json.loads(read_within(folder / CONFIG, _LARGEST_CONFIG))
        if not isinstance(values, dict) or any(
            not isinstance(values.get(key), kind) for key, kind in _FIELDS.items()
        ):
            raise ValueError(f"one of the fields {', '.join(_FIELDS)} is missing or of another type")
        if values["schema"] != SCHEMA or values["kind"] not in _KINDS:
            kinds = " or ".join(_KINDS)
            raise ValueError(
                f"it has schema {values['schema']} and kind {values['kind']}, not {SCHEMA} and {kinds}"
            )
        config = _KINDS[values["kind"]].from_json(values["encoder"])
    except OSError as error:
        raise CheckpointError(
            f"{name} has no readable {CONFIG}: {error.strerror}",
            "give the folder that 'loraudit train-encoder' wrote",
        ) from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{name}/{CONFIG} describes no encoder: {clean(str(error))}",
            "give the folder that 'loraudit train-encoder' wrote",
        ) from None
    return EncoderCheckpoint(
        folder=folder,
        name=name,
        sha256=values["weights_sha256"],
        base=clean(values["base"]),
        frozen_sha256=values["frozen_sha256"],
        config=config,
        training=values["training"],
    )


def load_encoder(
    where: str | Path, frozen: FrozenTransformer, length: int
) -> tuple[Encoder, EncoderCheckpoint]:
    """Load the encoder in the folder (or of the name) `where`, and its description.

    The encoder is on the CPU, in evaluation mode. `frozen` and `length`, the `L` of an embedding `[L, d]`,
    are those of the base. Raises `CheckpointError` if files are missing, changed or broken, `DoesNotFit` if
    the encoder was made for another base.
    """
    checkpoint = read_checkpoint(where)
    checkpoint.check_base(frozen, length)
    # On the meta device sizes from a hostile config cost no memory, and no random state moves.
    with torch.device("meta"):
        encoder = _build(checkpoint.config, frozen)
    again = "train or download it again"
    try:
        path = checkpoint.folder / WEIGHTS
        data = read_within(path, min(path.stat().st_size, _LARGEST_WEIGHTS))
        if hashlib.sha256(data).hexdigest() != checkpoint.sha256:
            raise CheckpointError(
                f"{checkpoint.name}/{WEIGHTS} is not the file that its {CONFIG} describes", again
            )
        state = safetensors.torch.load(data)
    except OSError as error:
        raise CheckpointError(
            f"{checkpoint.name} has no readable {WEIGHTS}: {error.strerror}", again
        ) from None
    except SafetensorError as error:
        raise CheckpointError(
            f"{checkpoint.name}/{WEIGHTS} is not a sound safetensors file: {clean(str(error))}", again
        ) from None
    dtype = torch.float32 if isinstance(encoder, PaperEncoder) else torch.float16
    wanted = {name: (value.shape, dtype) for name, value in encoder.own_state().items()}
    if wanted != {name: (value.shape, value.dtype) for name, value in state.items()}:
        raise CheckpointError(
            f"{checkpoint.name}/{WEIGHTS} does not hold the tensors that its {CONFIG} describes", again
        )
    if not all(value.isfinite().all() for value in state.values()):
        raise CheckpointError(f"{checkpoint.name}/{WEIGHTS} holds NaN or infinite values", again)
    encoder.load_own_state({name: value.float() for name, value in state.items()})
    return encoder.eval(), checkpoint


def _build(config: PaperEncoderConfig | ProbeEncoderConfig, frozen: FrozenTransformer) -> Encoder:
    """Make the encoder of `config`, untrained."""
    return PaperEncoder(config, frozen) if isinstance(config, PaperEncoderConfig) else ProbeEncoder(config)
