"""The command `doctor`: a check of packages, device, memory and models, each with a line of advice.

Nothing is fetched or started. An installed torch is asked for its devices; all else is told without torch.
"""

import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import import_module, metadata
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from loraudit.base.memory import available_memory
from loraudit.cli.console import emit, width
from loraudit.cli.stored import Health, State, Stored, examine, fetched, shipped
from loraudit.errors import INSTALL, Incomplete, LorauditError, missing
from loraudit.text import clean
from loraudit.version import __version__

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Check", "Diagnosis", "Mark", "diagnose", "diagnosis_text", "doctor"]

EXAMPLES: Final = ("loraudit doctor",)
_LIGHT: Final = ("numpy", "ml_dtypes", "safetensors", "huggingface_hub")
_VERSIONS: Final = ("torch", "diffusers", "transformers", "open-clip-torch", "facenet-pytorch", "pillow")
_GIB: Final = 2**30
_TINY_GIB: Final = 1.2
"""Memory of a scan on the bundled base in GiB; the example took 1.06 on a CPU, torch included."""
_SD_GIB: Final = {"cpu": 6.5, "cuda": 7.0}
"""Memory of a scan on SD 1.x in GiB, by device: measured on a CPU, estimated on CUDA (docs/sd14.md)."""


class Mark(Enum):
    """Outcome of a check."""

    OK = "ok"
    NOTE = "--"
    """Outcome for a thing that is missing and that no scan on the bundled base needs."""
    NO = "NO"


@dataclass(frozen=True)
class Check:
    """One thing on this machine, and its state."""

    area: str
    name: str
    mark: Mark
    told: str
    advice: str = ""
    """Sentence on what to do; empty if nothing is to be done."""


@dataclass(frozen=True)
class Diagnosis:
    """All checks of this machine."""

    checks: tuple[Check, ...]

    @property
    def ready(self) -> bool:
        """True if the default scan can run on the bundled base."""
        return all(check.mark is not Mark.NO for check in self.checks)


def doctor() -> None:
    """Check what can run on this machine.

    The exit code is 4 if the default scan cannot run.
    """
    diagnosis = diagnose()
    emit(diagnosis_text(diagnosis, width=width(None)), None)
    if not diagnosis.ready:
        raise typer.Exit(Incomplete.exit_code)


def diagnose() -> Diagnosis:
    """Look at packages, device, memory and models. Raises nothing: each failure is a check that says so."""
    torch, packages = _packages()
    device, device_check = _device(torch)
    memory = available_memory()
    machine = [packages, device_check, _memory(memory)]
    models, small = _shipped()
    others = [(stored, examine(stored)) for stored in fetched()] if not missing(_LIGHT) else []
    cached = [_cached(stored, health) for stored, health in others]
    lacking = [check for check in (*machine, *models) if check.mark is Mark.NO]
    runs = [*_light(), _tiny(lacking)]
    runs += _large(others, torch is not None, device, memory) if small else []
    return Diagnosis((*machine, *models, *cached, *runs))


def diagnosis_text(diagnosis: Diagnosis, *, width: int) -> str:
    """Lay out the checks by area, each with its advice below, in at most `width` columns."""
    from loraudit.cli.tables import columns, hanging, plain_text

    names = max(len(check.name) for check in diagnosis.checks)
    marks = max(len(mark.value) for mark in Mark)
    parts: list[RenderableType] = [
        f"loraudit {__version__}, Python {platform.python_version()}, {platform.machine()}"
    ]
    for area, checks in groupby(diagnosis.checks, lambda check: check.area):
        table = columns(0, marks, names, 0)
        for check in checks:
            table.add_row("", check.mark.value, check.name, check.told)
            if check.advice:
                table.add_row("", "", "", hanging("> ", check.advice))
        parts += [f"\n{area}", table]
    ready = "The default scan can run here, on the base that ships with loraudit."
    parts.append(f"\n{ready if diagnosis.ready else 'The default scan cannot run here: see NO above.'}")
    return plain_text(parts, width=width)


def _packages() -> tuple[Any, Check]:
    """Load torch, where possible, and check the packages."""
    area, name = "Machine", "packages"
    if lacking := missing():
        return None, Check(area, name, Mark.NO, f"not installed: {', '.join(lacking)}", _sentence(INSTALL))
    try:
        # A torch built for another processor or system is installed and does not load.
        torch = import_module("torch")
    except (ImportError, OSError) as error:
        told = f"torch is installed and does not load ({type(error).__name__})"
        return None, Check(area, name, Mark.NO, told, "Install torch again, for this machine.")
    found = [f"{package} {version}" for package in _VERSIONS if (version := _version(package))]
    return torch, Check(area, name, Mark.OK, ", ".join(found))


def _version(package: str) -> str:
    try:
        return clean(metadata.version(package), 40)
    except metadata.PackageNotFoundError:
        return ""


def _device(torch: Any) -> tuple[str, Check]:  # noqa: ANN401
    area, name = "Machine", "device"
    cores = f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"
    if torch is not None and torch.cuda.is_available():
        try:
            free, total = torch.cuda.mem_get_info()
            told = f"cuda, {clean(torch.cuda.get_device_name())}, {_gib(free)} of {_gib(total)} free; {cores}"
        except RuntimeError:
            # A listed device can be in use elsewhere, lost, or made for another driver.
            told = f"a CUDA device that does not answer; {cores}"
            return "cpu", Check(area, name, Mark.NOTE, told, "Scan with --device cpu until it does.")
        return "cuda", Check(area, name, Mark.OK, told, "Scans take it; --device cpu leaves it alone.")
    advice = "Enough for the base that ships; a scan on Stable Diffusion wants a GPU (docs/sd14.md)."
    told = "" if torch is None else "; torch sees no CUDA device"
    return "cpu", Check(area, name, Mark.OK, f"cpu, {cores}{told}", advice)


def _memory(available: int | None) -> Check:
    area, name = "Machine", "memory"
    if available is None:
        advice = f"A scan takes about {_TINY_GIB} GiB."
        return Check(area, name, Mark.NOTE, "this system does not say", advice)
    told = f"{_gib(available)} available"
    if available < _TINY_GIB * _GIB:
        return Check(area, name, Mark.NO, told, f"Close other programs: a scan takes {_TINY_GIB} GiB.")
    return Check(area, name, Mark.OK, told)


def _shipped() -> tuple[list[Check], bool]:
    """Check the models in `models/`; the second value is False if that folder is missing."""
    area = "Models that ship with loraudit"
    try:
        models = shipped()
    except LorauditError as error:
        return [Check(area, "models", Mark.NO, clean(str(error)), _sentence(error.hint))], False
    checks = []
    for stored in models:
        health = examine(stored)
        if health.state is State.WHOLE:
            checks.append(Check(area, stored.name, Mark.OK, _told(health)))
        else:
            told = health.fault or "not here"
            checks.append(Check(area, stored.name, Mark.NO, clean(told, 300), "Install loraudit again."))
    return checks, True


def _cached(stored: Stored, health: Health) -> Check:
    area, name = "Models that are fetched when a scan needs them", stored.name
    if health.state is State.WHOLE:
        return Check(area, name, Mark.OK, f"{stored.where}: {_told(health)}")
    if health.state is State.DAMAGED:
        told, advice = f"{stored.where}: {health.fault}", "Take it out with 'loraudit cache clear'."
        return Check(area, name, Mark.NOTE, clean(told, 300), advice)
    told = "not here" if health.state is State.ABSENT else f"not whole: {health.fault}"
    gigabytes, free = stored.about_bytes / 10**9, _free_disk(stored.folder)
    advice = f"A scan that needs it fetches about {gigabytes:.1f} GB, unless --offline is given."
    if os.environ.get("HF_HUB_OFFLINE") not in {None, "", "0"}:
        advice = f"Unset HF_HUB_OFFLINE once, for a scan to fetch about {gigabytes:.1f} GB."
    elif free is not None and free < stored.about_bytes:
        advice = f"Make room: it takes about {gigabytes:.1f} GB and {free / 10**9:.1f} GB are free there."
    return Check(area, name, Mark.NOTE, told, advice)


def _light() -> Iterator[Check]:
    area = "What can run here"
    told = "reads what the file says, of a LoRA of any family"
    yield Check(area, "--depth metadata", Mark.OK, told, "loraudit scan FILE --depth metadata")
    if lacking := missing(_LIGHT):
        advice = "Install loraudit again."
        yield Check(area, "--depth weights", Mark.NO, f"not installed: {', '.join(lacking)}", advice)
    else:
        told = "reads every matrix as well"
        yield Check(area, "--depth weights", Mark.OK, told, "loraudit scan FILE --depth weights")


def _tiny(lacking: Sequence[Check]) -> Check:
    area, name = "What can run here", "attacks, base tiny"
    if lacking:
        told = f"not here: see {', '.join(check.name for check in lacking)}"
        return Check(area, name, Mark.NO, told, lacking[0].advice)
    return Check(area, name, Mark.OK, "all that the default scan needs is here", "loraudit scan FILE")


def _large(
    models: Sequence[tuple[Stored, Health]], torch: bool, device: str, memory: int | None
) -> Iterator[Check]:
    """Check whether attacks can run on each base that is fetched."""
    area = "What can run here"
    encoders = {stored.name for stored in shipped() if stored.name.startswith("encoder ")}
    for stored, _ in models:
        base = stored.name.removeprefix("base ")
        if base == stored.name:
            continue
        need = [stored.name, *(other.name for other, _ in models if not other.name.startswith("base "))]
        absent = [
            other.name for other, health in models if other.name in need and health.state != State.WHOLE
        ]
        name, gib = f"attacks, base {base}", _SD_GIB[device]
        known = f"encoder probe-{base}" in encoders
        no_encoder = "" if known else " No encoder ships for it: train one (docs/training.md)."
        if not torch:
            yield Check(area, name, Mark.NOTE, "not here: see packages", _sentence(INSTALL))
        elif device == "cpu" and memory is not None and memory < gib * _GIB:
            told = f"too little memory: a scan takes {gib} GiB"
            yield Check(area, name, Mark.NOTE, told, "Run it on a machine with more.")
        elif absent:
            told = f"not here yet: {', '.join(absent)}"
            yield Check(area, name, Mark.NOTE, told, f"The first scan with a network fetches it.{no_encoder}")
        elif no_encoder:
            told = "all but an encoder is here: without one a scan runs the other attacks and is incomplete"
            yield Check(area, name, Mark.NOTE, told, no_encoder.strip())
        else:
            yield Check(area, name, Mark.OK, "all that a scan needs is here", "loraudit scan FILE")


def _told(health: Health) -> str:
    hashes = [
        f"{file.partition('/')[0] if '/' in file else 'sha256'} {digest[:16]}…"
        for file, digest in health.hashes.items()
    ]
    return f"{health.size_bytes / 10**6:,.1f} MB, {', '.join(hashes)}"


def _free_disk(folder: Path) -> int | None:
    """Count the bytes that are free where `folder` is or would be."""
    there = next((parent for parent in (folder, *folder.parents) if parent.is_dir()), None)
    return shutil.disk_usage(there).free if there is not None else None


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"


def _sentence(hint: str) -> str:
    return f"{hint[:1].upper()}{hint[1:]}."
