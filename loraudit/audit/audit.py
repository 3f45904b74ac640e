"""The story of an audit: read it first.

    LoRA + base --attacks--> aims (embeddings) --plan--> pictures with and without the LoRA
                --scorers--> evidence --judge--> findings, and with them the report

Every attack sees the LoRA and the public base only; the owner's reference photos meet the pictures
afterwards. The controls are the base model and a scrambled copy of the LoRA under the same embeddings, seeds
and settings, and LoRAs that hold nobody, where calibration data of them are at hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loraudit.audit.target import target_of, unread_gaps, update_of
from loraudit.errors import Incomplete, LorauditError
from loraudit.evidence.faces import AttackEvidence
from loraudit.evidence.likelihood import likelihood_score
from loraudit.evidence.null import Null, distributions
from loraudit.evidence.table import score_table
from loraudit.findings.conditions import CalibrationUsed, Evaluations, Settings
from loraudit.findings.report import Gap, Report, gap
from loraudit.verdict.copies import judge_copies
from loraudit.verdict.judge import judge
from loraudit.verdict.likelihood import judge_likelihood
from loraudit.verdict.policy import Policy
from loraudit.verdict.stopping import enough, settled
from loraudit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from loraudit.attacks import Aim, Attack, Reconstruction
    from loraudit.attacks.likelihood import LikelihoodTest
    from loraudit.attacks.plan import Plan
    from loraudit.base.model import Base
    from loraudit.evidence.calibration import Calibration
    from loraudit.evidence.likelihood import Likelihood
    from loraudit.lora import LoRA
    from loraudit.scores.scorers import Scorers

__all__ = ["audit_lora"]


def audit_lora(
    lora: LoRA,
    base: Base,
    attacks: Sequence[Attack],
    plan: Plan,
    scorers: Scorers | None,
    *,
    calibration: Calibration | None = None,
    likelihood: LikelihoodTest | None = None,
    gaps: Sequence[Gap] = (),
    keep: Callable[[Reconstruction], None] = lambda _found: None,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> Report:
    """Attack `lora` on `base` and report what came back.

    Without `scorers` the pictures are made but not judged. `calibration` is used if it fits, `likelihood`
    runs unless the verdict is settled before. `gaps` are parts that could not be set up, `keep` receives the
    pictures, `on_step` hears how many are done of how many. Raises `NotScannable` if the LoRA does not fit
    the base.
    """
    missing = [*gaps, *unread_gaps(lora)]
    aims: list[Aim] = []
    for attack in attacks:
        try:
            aims += attack.aims(lora, base)
        except LorauditError as error:
            if error.exit_code != Incomplete.exit_code:
                raise
            missing.append(gap(f"attack {attack.name}", error))
    aims = plan.in_order(aims)
    policy = Policy()
    null, used = _null(lora, calibration, base, aims, plan, scorers)
    evidence: list[AttackEvidence] = []
    ran = pictures = shared = 0

    def is_settled(found: Reconstruction) -> bool:
        return scorers is not None and settled(scorers.weigh(found), len(plan.seeds), len(aims), policy, null)

    def is_enough() -> bool:
        return scorers is not None and enough(evidence, len(aims), policy, null)

    for found in plan.reconstruct(lora, base, aims, on_step, is_settled, is_enough):
        keep(found)
        ran, pictures, shared = ran + 1, pictures + len(found.seeds), shared + found.shared
        if scorers:
            evidence.append(scorers.weigh(found))
    known: Likelihood | None = None
    if likelihood is not None and aims and not (plan.sequential and evidence and is_enough()):
        known = likelihood.run(base.with_lora(lora), base, aims[0].embedding)
    tested = () if likelihood is None else ("likelihood",)
    sought = sum(aim.evaluations for aim in aims)
    spent, most = sought + plan.evaluations(pictures, shared), sought + plan.most(aims)
    found_so_far = judge(evidence, policy, null, len(aims)) if scorers else ()
    copied = judge_copies(evidence, policy)
    return Report(
        version=__version__,
        target=target_of(lora),
        # Without scorers there is no evidence to judge, which is another thing than evidence of nothing.
        findings=(*found_so_far, *copied, *([] if known is None else [judge_likelihood(known, policy)])),
        scores=(*score_table(evidence), *([] if known is None else [likelihood_score(known)])),
        settings=Settings(
            base=base.name,
            encoder=next((aim.encoder for aim in aims if aim.encoder), None),
            attacks=(*(aim.attack for aim in aims[:ran]), *(tested if known else ())),
            skipped=(*(aim.attack for aim in aims[ran:]), *(() if known else tested)),
            seeds=plan.seeds,
            budget=plan.budget,
            evaluations=Evaluations(
                spent + (likelihood.evaluations if likelihood and known else 0),
                most + (likelihood.evaluations if likelihood else 0),
            ),
            calibration=used,
            device=plan.device(base),
        ),
        incomplete=tuple(missing),
        update=update_of(lora),
        distributions=distributions(evidence, null),
    )


def _null(
    lora: LoRA,
    calibration: Calibration | None,
    base: Base,
    aims: Sequence[Aim],
    plan: Plan,
    scorers: Scorers | None,
) -> tuple[Null | None, CalibrationUsed | None]:
    """What control LoRAs score, if there are data and they fit this audit."""
    if calibration is None or scorers is None:
        return None, None
    from loraudit.evidence.calibration import Conditions
    from loraudit.lora.directions import directions

    # The aims of one attack have one encoder.
    encoders = {aim.attack.split(":")[0]: aim.encoder.sha256 for aim in aims if aim.encoder}
    sampling = plan.sampling
    here = Conditions(base.name, sampling.steps, sampling.guidance, encoders, scorers.face_sha256)
    attacks = tuple(aim.attack for aim in aims if not aim.likeness_only)
    likeness_only = tuple(aim.attack for aim in aims if aim.likeness_only)
    return calibration.fit(here, attacks, len(plan.seeds), directions(lora), likeness_only)
