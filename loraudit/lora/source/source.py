"""Local files that hold one LoRA, found from what the user typed; a file on the Hub is fetched first."""

from dataclasses import dataclass, replace
from pathlib import Path

from loraudit.errors import LorauditError, NotScannable
from loraudit.lora.source.address import PEFT_CONFIG, PEFT_WEIGHTS, PICKLES, parse_spec
from loraudit.lora.source.shards import first_shards, shards_of
from loraudit.text import clean

__all__ = ["Around", "Part", "Source", "find_source", "part_of", "parts_of"]


@dataclass(frozen=True)
class Part:
    """File of weights and the peft configuration beside it, if there is one."""

    weights: Path
    config: Path | None
    pieces: tuple[Path, ...] = ()
    """Pieces of the file that `weights` is a piece of, those that lack included; empty if it is whole."""


@dataclass(frozen=True, eq=False)
class Around:
    """Folder whose files belong to several LoRAs, equal to itself alone: it is read once a scan."""

    folder: Path
    stems: frozenset[str]
    """Names of the LoRAs in it, without the ending: a file of such a name belongs to that LoRA alone."""


@dataclass(frozen=True)
class Source:
    """Files of one LoRA."""

    name: str
    """Name, escaped for display."""
    path: Path
    parts: tuple[Part, ...]
    origin: str | None = None
    """Address `hf://namespace/name@commit/path`, escaped for display; None for a local file."""
    pickles: tuple[str, ...] | None = None
    """Names of pickle files that a folder's scan gave to this LoRA; None for one that was named itself."""
    around: tuple[Around, ...] = ()
    """Folders with files that belong to this LoRA and others; empty for a LoRA that was named itself."""


def find_source(target: str | Path, offline: bool = False) -> Source:
    """Find the LoRA at `target`: a file, a folder with one, a peft folder (or `unet/` and `text_encoder/`).

    A `str` may also be an address on the Hub (`loraudit.lora.source.address`). If `offline`, the Hub cache
    alone is asked.

    Raises `LorauditError` if there is nothing or the folder holds several, `NotScannable` if it holds none.
    An `OSError` of the file system passes through.
    """
    spec = parse_spec(target) if isinstance(target, str) else None
    if spec is not None:
        from loraudit.lora.source.hub import fetch_file

        file = fetch_file(spec, offline)
        return Source(clean(file.path.name), file.path, parts_of(file.path), file.origin)
    path = Path(target)
    if not str(target) or not path.exists():
        hint = "check the path; a broken link counts as missing" if path.is_symlink() else "check the path"
        raise LorauditError(f"no such file or folder: {clean(str(target), 300)}", hint)
    name = clean(path.resolve().name if path.name in {"", ".."} else path.name)
    return Source(name, path, _folder(path, name) if path.is_dir() else parts_of(path))


def _folder(path: Path, name: str) -> tuple[Part, ...]:
    folders = [path] if (path / PEFT_WEIGHTS).exists() else [path / "text_encoder", path / "unet"]
    parts = tuple(part_of(folder / PEFT_WEIGHTS) for folder in folders if (folder / PEFT_WEIGHTS).exists())
    if parts:
        return parts
    if (path / "model_index.json").exists():
        raise NotScannable(f"{name} is a whole diffusion model, not a LoRA", "give the LoRA trained on it")
    entries = sorted(entry.name for entry in path.iterdir())
    files = [entry for entry in entries if entry.endswith(".safetensors")]
    firsts = first_shards([path / file for file in files])
    if len(firsts) == 1:
        return parts_of(firsts[0])
    if files:
        listed = clean(", ".join(files), 300)
        raise LorauditError(f"the folder {name} holds {len(files)} .safetensors files", f"name one: {listed}")
    if any(entry.lower().endswith(PICKLES) for entry in entries):
        raise NotScannable(
            f"the folder {name} holds pickle files and no .safetensors file",
            "loraudit never unpickles; ask for the .safetensors file",
        )
    raise NotScannable(
        f"the folder {name} holds no LoRA file", f"give a .safetensors file or a folder with {PEFT_WEIGHTS}"
    )


def part_of(weights: Path) -> Part:
    """Pair the file `weights` with the peft configuration in its folder."""
    config = weights.parent / PEFT_CONFIG
    return Part(weights, config if config.is_file() else None)


def parts_of(weights: Path) -> tuple[Part, ...]:
    """Pair every piece of the file `weights` that is there with the peft configuration in its folder."""
    pieces = shards_of(weights)
    if len(pieces) == 1:
        return (part_of(weights),)
    return tuple(replace(part_of(piece), pieces=pieces) for piece in pieces if piece.exists())
