"""Scans replayed on pictures that were drawn before, with controls beside all of them or on demand."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from loraudit.attacks.plan import looks
from loraudit.bench.cases import first_pictures
from loraudit.evidence.faces import AttackEvidence
from loraudit.evidence.null import Null
from loraudit.verdict.judge import judge
from loraudit.verdict.policy import Policy
from loraudit.verdict.stopping import asks_for_controls, enough, settled

__all__ = ["POLICY", "Way", "replayed"]

POLICY: Final = Policy()


@dataclass
class Way:
    """Scan that is replayed, aim by aim and look by look, on pictures that another one draws."""

    ask: bool
    """True: controls are drawn where the pictures ask for them; False: beside every picture, as once."""
    aims: int
    """Number of aims that the scan has."""
    null: Null | None
    most: int
    """Pictures of an aim at most."""
    pictures: int = 0
    """Pictures drawn so far, by all three models."""
    over: bool = False
    """True once no aim can raise the verdict."""
    _done: list[AttackEvidence] = field(default_factory=list)
    _controls: int = 0
    _of_base: dict[str, int] = field(default_factory=dict)
    _before: str = ""
    _settled: bool = False

    @property
    def waits(self) -> bool:
        """True if the scan would draw more pictures of this aim."""
        return not (self.over or self._settled)

    @property
    def level(self) -> str:
        """Level of the verdict so far."""
        return max(finding.severity for finding in judge(self._done, POLICY, self.null, self.aims)).value

    def begin(self) -> None:
        """Begin the next aim, of which nothing is drawn."""
        self._controls, self._settled = 0, False

    def look(self, key: str, whole: AttackEvidence) -> None:
        """Look at the first pictures of an aim, with both controls beside all of them.

        `key` tells embeddings apart, whose pictures of the base are shared.
        """
        if not self.waits:
            return
        look, null = whole.tuned.pictures, self.null
        seen = first_pictures(whole, look, self._controls)
        if not self.ask or asks_for_controls(seen, self.aims, POLICY, null):
            self._controls = look
            seen = first_pictures(whole, look, look)
        self._settled = look == self.most or settled(seen, self.most, self.aims, POLICY, null)
        if not self._settled:
            return
        # The old way shared the pictures of the base with the aim before only.
        known = self._of_base.get(key, 0) if self.ask or key == self._before else 0
        self.pictures += look + 2 * self._controls - min(self._controls, known)
        self._of_base[key] = max(known, self._controls) if self.ask else self._controls
        self._before = key
        self._done.append(seen)
        self.over = enough(self._done, self.aims, POLICY, null)


def replayed(scan: Sequence[tuple[str, AttackEvidence]], null: Null | None, ask: bool) -> Way:
    """Replay a scan of aims, each with the key of its embedding and all of its pictures and controls."""
    most = scan[0][1].tuned.pictures
    way = Way(ask, len(scan), null, most)
    for key, whole in scan:
        way.begin()
        for look in looks(most):
            way.look(key, first_pictures(whole, look))
    return way
