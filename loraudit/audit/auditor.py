"""What a scan needs besides the file: a base, attacks with their encoders, scorers, reference photos.

What is not at hand is a gap in the report; what was asked for wrongly is an error.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from loraudit.attacks import Attack, Reconstruction
from loraudit.attacks.encoder import EncoderAttack, open_encoder
from loraudit.attacks.guidance import GuidanceAttack
from loraudit.attacks.likelihood import LikelihoodTest, read_decoys
from loraudit.attacks.plan import Plan, plan_for
from loraudit.attacks.prompts import PromptsAttack
from loraudit.attacks.search.search import SearchAttack
from loraudit.audit.album import Album, Gallery
from loraudit.audit.audit import audit_lora
from loraudit.audit.photos import read_photos
from loraudit.audit.request import Request
from loraudit.base.model import Base, load_base
from loraudit.cards import artefact, base_names, cache_folder, file_sha256, models_dir
from loraudit.errors import Incomplete, LorauditError, NotScannable
from loraudit.evidence.calibration import Calibration, load_calibration
from loraudit.evidence.table import leading_attack
from loraudit.findings.exits import Exit
from loraudit.findings.report import Gap, Report, gap
from loraudit.lora import LoRA
from loraudit.lora.dora import resolve
from loraudit.scores import ClipScorer, FaceScorer, fit_square
from loraudit.scores.clip import load_openai_clip, load_tiny_clip, openai_clip_weights
from loraudit.scores.face import load_tiny_face
from loraudit.scores.facenet import facenet_weights, load_facenet
from loraudit.scores.scorers import Scorers, look_at
from loraudit.text import clean

__all__ = ["Bench", "Workbench", "set_up"]

_ENCODERS: Final = ("attack encoder", "attack paper")
_SMALL: Final = 64
"""Pixels. The embedded base draws synthetic people at this size, whom only `tiny-face` knows."""
_MEMORY_WORDS: Final = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass(frozen=True, eq=False)
class Bench:
    """A base set up for auditing."""

    base: Base
    attacks: tuple[Attack, ...]
    scorers: Scorers | None
    """None without a face model."""
    gaps: tuple[Gap, ...]
    """What could not be set up."""
    calibration: Calibration | None = None
    """None: there is none for this base."""
    likelihood: LikelihoodTest | None = None
    """None without reference photos or decoys."""


class Workbench:
    """Audits one LoRA after the other, and keeps the base for the next one."""

    def __init__(
        self, request: Request, say: Callable[[str], None], on_step: Callable[[int, int], None]
    ) -> None:
        """Raises `LorauditError` if a reference photo cannot be read or the album cannot be made."""
        self._request, self._say, self._on_step = request, say, on_step
        self._photos = [] if request.reference is None else read_photos(request.reference)
        self._album = None if request.save_images is None else Album.create(request.save_images)
        self._ready: tuple[tuple[str, str | None], Bench] | None = None

    def audit(self, lora: LoRA, within: str | None = None) -> Report:
        """The report on `lora`; its pictures go into the album, or into a new folder `within` it.

        Raises `NotScannable` if no base is known or the LoRA does not fit it, `Incomplete` if memory does not
        suffice, `LorauditError` if there is no such base, encoder or device, or no face in the photos.
        """
        request = self._request
        name = request.base or lora.base
        if name is None:
            raise NotScannable(
                f"{lora.file.name} fits several bases of {lora.family} alike", "name its own with --base"
            )
        self._say(f"{lora.file.name}: a {lora.family} LoRA, scanned on the base {clean(name, 300)}")
        album = self._album.within(within) if self._album and within else self._album

        gallery = Gallery(self._photos, request.sheet == "clear") if request.sheet else None

        def keep(found: Reconstruction) -> None:
            for place in (album, gallery):
                if place is not None:
                    place.add(found.aim.attack, found.seeds, found.tuned, found.base, found.scrambled)

        with _memory_runs_out(name):
            bench = self._bench(name, lora)
            # What the base's weights make of it is read now.
            lora = resolve(lora, bench.base.weights(lora.dora))
            plan = plan_for(bench.base, request.samples, request.steps, request.seed)
            report = audit_lora(
                lora,
                bench.base,
                bench.attacks,
                plan,
                bench.scorers,
                calibration=bench.calibration,
                likelihood=bench.likelihood,
                gaps=bench.gaps,
                keep=keep,
                on_step=self._on_step,
            )
        if album is not None:
            album.finish(self._photos)
        return (
            report
            if gallery is None
            else replace(report, sheet=gallery.sheet(leading_attack(report.findings)))
        )

    def _bench(self, name: str, lora: LoRA) -> Bench:
        key = (name, lora.base)
        if self._ready is None or self._ready[0] != key:
            self._ready = None  # two bases at once may not fit into memory
            self._ready = (key, self._set_up(name, lora.base or name))
        return self._ready[1]

    def _set_up(self, name: str, family: str) -> Bench:
        request, gaps = self._request, list[Gap]()
        base = load_base(name, _device(request.device), request.offline)
        names = request.attacks
        if request.encoder is not None and not request.named:
            # Whoever names an encoder wants it to run.
            kind = open_encoder(_encoder(request.encoder, family, "encoder"), base).name
            names = (*names, *([] if kind in names else [kind]))
        attacks = _attacks(base, names, request.encoder, family, gaps, bool(self._photos))
        if not request.named and request.encoder is None:
            # No encoder ships for this base: nothing that was asked for is missing.
            for one in [one for one in gaps if one.what in _ENCODERS]:
                self._say(f"left out: {one.what}: {one.why}")
                gaps.remove(one)
        scorers = _scorers(base, self._photos, request.offline, gaps)
        if scorers is not None and scorers.references is not None:
            found, photos = scorers.references.faces, scorers.references.photos
            self._say(f"reference: a face found in {found} of {photos} photos")
        likelihood = self._likelihood(base, name, gaps) if "likelihood" in request.attacks else None
        return Bench(base, tuple(attacks), scorers, tuple(gaps), _calibration(name), likelihood)

    def _likelihood(self, base: Base, name: str, gaps: list[Gap]) -> LikelihoodTest | None:
        """The test against the reference photos; `gaps` gets it if it was named and cannot run."""
        folder = _decoys(name)
        if self._photos and folder is not None:
            own = torch.cat([fit_square(photo[None], base.image_size) for photo in self._photos])
            return LikelihoodTest(base.encode_images(own), read_decoys(folder)[0])
        if self._request.named:
            why = "it has no photos of other people for this base" if self._photos else "it needs --reference"
            gaps.append(Gap("attack likelihood", why))
        return None


def set_up(request: Request, base: str) -> tuple[Bench, Plan]:
    """Base, attacks and face model to calibrate with, without a target.

    Raises `LorauditError` where an attack asked for, or the face model, is not at hand.
    """
    gaps: list[Gap] = []
    loaded = load_base(base, _device(request.device), request.offline)
    attacks = _attacks(loaded, request.attacks, request.encoder, base, gaps, photos=True)
    scorers = _scorers(loaded, (), request.offline, gaps)
    if gaps and (scorers is None or len(attacks) < len(request.attacks)):
        raise Incomplete(f"cannot calibrate without {gaps[0].what}: {gaps[0].why}")
    return Bench(loaded, tuple(attacks), scorers, ()), plan_for(loaded, request.samples, request.steps, 0)


def _calibration(base: str) -> Calibration | None:
    """The calibration data of a base of `models/cards.toml`; none of a folder, whatever its name."""
    folder = models_dir() / f"calibration-{base}"
    known = base in base_names() and not Path(base).is_dir()
    return load_calibration(folder) if known and folder.is_dir() else None


def _attacks(
    base: Base, names: Sequence[str], encoder: str | None, family: str, gaps: list[Gap], photos: bool
) -> list[Attack]:
    """The attacks named, with reference `photos` or without; `gaps` gets those that cannot run here."""
    attacks: list[Attack] = []
    for name in names:
        if name == "prompts":
            attacks.append(PromptsAttack())
        elif name == "guidance":
            attacks.append(GuidanceAttack())
        elif name == "likelihood":
            continue  # a test of photos, not an attack that draws any
        elif name == "search":
            attacks.append(SearchAttack(_start(encoder, family, base), photos=photos))
        else:
            try:
                attacks.append(_encoder_attack(name, encoder, family, base))
            except LorauditError as error:
                if error.exit_code != Exit.INCOMPLETE:
                    raise
                gaps.append(gap(f"attack {name}", error))
    return attacks


def _start(asked: str | None, family: str, base: Base) -> EncoderAttack | None:
    """The probe encoder, where there is one: a search can do without."""
    try:
        return _encoder_attack("encoder", asked, family, base)
    except Incomplete:
        return None


def _encoder_attack(name: str, asked: str | None, family: str, base: Base) -> EncoderAttack:
    """The attack `name`, `paper` or `encoder`, with the encoder asked for if that is of its kind."""
    if asked is not None:
        attack = open_encoder(_encoder(asked, family, name), base)
        if attack.name == name:
            return attack
    return open_encoder(_encoder(None, family, name), base)


def _encoder(asked: str | None, family: str, attack: str) -> str:
    """The encoder asked for, a folder or the name of one that ships, or the one that ships for `family`."""
    name = asked or f"{'paper' if attack == 'paper' else 'probe'}-{family}"
    if Path(name).is_dir() or (models_dir() / name).is_dir():
        return name
    if asked:
        raise LorauditError(
            f"there is no encoder {clean(name, 300)}", "give the folder that 'loraudit train-encoder' wrote"
        )
    raise Incomplete(
        f"no encoder for the base {clean(family)} ships with loraudit",
        "train one with 'loraudit train-encoder' and name it with --encoder, or choose --attack prompts",
    )


def _scorers(base: Base, photos: Sequence[Tensor], offline: bool, gaps: list[Gap]) -> Scorers | None:
    """Those for the embedded base or those for photographs; `gaps` gets what is not at hand."""
    small, device = base.image_size <= _SMALL, base.device
    face: FaceScorer
    clip: ClipScorer | None = None
    try:
        if small:
            weights = artefact("tiny-face") / "model.safetensors"
            face = load_tiny_face(weights.parent, device)
        else:
            weights = facenet_weights(cache_folder(), offline=offline)
            face = load_facenet(weights, device)
    except Incomplete as error:
        gaps.append(gap("face model", error))
        return None
    try:
        if small:
            clip = load_tiny_clip(artefact("tiny-clip"), device)
        else:
            clip = load_openai_clip(openai_clip_weights(offline=offline), device)
    except Incomplete as error:
        gaps.append(gap("CLIP model", error))
    folder = _decoys(base.name)
    others = None if folder is None else read_decoys(folder)[1]
    references = look_at(photos, face, clip, others) if photos else None
    return Scorers(face, clip, references, file_sha256(weights))


def _decoys(base: str) -> Path | None:
    """Other people's photos for a base of `models/cards.toml`, if any ship."""
    folder = models_dir() / f"decoys-{base}"
    return folder if base in base_names() and not Path(base).is_dir() and folder.is_dir() else None


def _device(asked: str | None) -> str:
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise LorauditError("there is no CUDA device on this machine", "leave --device out")
    return asked or ("cuda" if available else "cpu")


@contextmanager
def _memory_runs_out(base: str) -> Iterator[None]:
    """Raise `Incomplete` where torch or Python find no more memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch has a class of its own for this on a GPU only.
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in _MEMORY_WORDS):
            raise
        raise Incomplete(
            f"not enough memory for the base {clean(base, 300)}",
            "close other programs, or use a machine with more",
        ) from None
