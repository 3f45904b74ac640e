"""Auditor: from LoRAs to reports, one after the other, on a base that stays loaded for the next LoRA."""

from collections.abc import Callable
from dataclasses import replace

from loraudit.attacks.aim import Aim, Reconstruction
from loraudit.attacks.encoder import check_encoder
from loraudit.attacks.plan import plan_for
from loraudit.audit.album import Album, Gallery
from loraudit.audit.audit import audit_lora
from loraudit.audit.photos import Photos, read_photos
from loraudit.audit.request import QUICK_CONTROLS, Request
from loraudit.audit.setup import Setup, set_up
from loraudit.audit.shown import shown_attack
from loraudit.base.load import NoBase, pick_device
from loraudit.base.memory import memory_may_run_out
from loraudit.base.source import find_base
from loraudit.errors import Incomplete
from loraudit.findings.finding import leading_attack
from loraudit.findings.report import Report
from loraudit.lora import LoRA
from loraudit.lora.dora import resolve
from loraudit.runs import OnStep, unheard
from loraudit.text import clean

__all__ = ["Auditor"]


class Auditor:
    """A program's way to audit LoRAs; keeps the request, and the base of the LoRA before."""

    def __init__(
        self,
        request: Request,
        say: Callable[[str], None] = lambda _line: None,
        on_step: OnStep = unheard,
    ) -> None:
        """Read the reference photos, make the folder for pictures, and check what the request names.

        `say` receives lines on what is going on. `on_step` receives the number of pictures done, their total
        (0 if not known yet) and the name of what runs. Raises `LorauditError` if a photo cannot be read, if
        the folder cannot be made, or if there is no such base, encoder or device.
        """
        self._request, self._say, self._on_step = request, say, on_step
        pick_device(request.device)
        if request.base is not None:
            find_base(request.base)
        if request.encoder is not None:
            check_encoder(request.encoder)
        read = Photos() if request.reference is None else read_photos(request.reference)
        self._photos, self._missed = read.pictures, read.gaps
        if read.missed:
            say(f"reference: {read.missed}")
        self._album = None if request.save_images is None else Album.create(request.save_images)
        self._ready: tuple[tuple[str, str | None], Setup] | None = None
        self._absent: dict[str, Incomplete] = {}
        """Bases that are not at hand; the network is not asked again for each LoRA."""

    def audit(self, lora: LoRA, within: str | None = None) -> Report:
        """Audit `lora`; pictures go into the album, or into a new folder `within` the album.

        Raises `NotScannable` if the LoRA does not fit the base. Raises `Incomplete` if no base is known, the
        base is not at hand, or memory does not suffice. Raises `LorauditError` if the base or the encoder is
        damaged, or if there is no face in the photos.
        """
        request = self._request
        name = request.base or lora.base
        if name is None:
            raise Incomplete(
                f"{lora.file.name} fits several bases of {lora.family} alike", "name the base with --base"
            )
        self._say(f"{lora.file.name}: {lora.family} LoRA, scanned on the base {clean(name, 300)}")
        album = self._album.within(within) if self._album and within else self._album
        gallery = Gallery(self._photos, request.sheet == "clear") if request.sheet else None

        aims: list[Aim] = []

        def keep(found: Reconstruction) -> None:
            aims.append(found.aim)
            for place in (album, gallery):
                if place is not None:
                    place.add(found.aim.attack, found.seeds, found.tuned, found.base, found.scrambled)

        with memory_may_run_out(name):
            setup = self._setup(name, lora.base)
            # DoRA is an update only together with the base's weights.
            lora = resolve(lora, setup.base.weights(lora.dora))
            controls = QUICK_CONTROLS if request.quick else None
            plan = plan_for(setup.base.card, request.samples, request.steps, request.seed, controls)
            report = audit_lora(lora, setup, plan, keep, self._on_step)
            report = replace(report, incomplete=(*self._missed, *report.incomplete))
        shown = shown_attack(report.findings, report.scores, aims)
        if album is not None:
            album.finish(self._photos, leading_attack(report.findings), shown)
        if gallery is None:
            return report
        return replace(report, sheet=gallery.sheet(shown))

    def _setup(self, name: str, family: str | None) -> Setup:
        """Return the base `name` set up for LoRAs of the base `family`, kept from the last LoRA if equal."""
        if self._ready is None or self._ready[0] != (name, family):
            if name in self._absent:
                raise self._absent[name]
            # Two bases at once may not fit into memory.
            self._ready = None
            try:
                ready = set_up(self._request, name, family or name, self._photos, self._say)
            except NoBase as error:
                self._absent[name] = Incomplete(str(error), error.hint)
                raise self._absent[name] from error
            self._ready = ((name, family), ready)
        return self._ready[1]
