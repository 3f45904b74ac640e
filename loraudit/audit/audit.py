"""The story of an audit: read it first.

    LoRA + base --attacks--> aims (embeddings) --plan--> pictures with and without the LoRA
                --scorers--> evidence --judge--> findings, and with them the report

Every attack sees the LoRA and the public base only; the owner's reference photos meet the pictures
afterwards. Where the pictures could be a finding, two controls run under the same embeddings, seeds and
settings: the base model, and a scrambled copy that is as strong as the LoRA. Where calibration data are at
hand, LoRAs that hold nobody are a third control.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from loraudit.audit.target import target_of, unread_gaps, update_of
from loraudit.evidence.holding import asks_what
from loraudit.evidence.null import distributions
from loraudit.evidence.table import score_table
from loraudit.findings.conditions import Evaluations, Settings
from loraudit.findings.report import Report
from loraudit.lora.recorded import recorded_clip_skip
from loraudit.runs import OnStep, unheard
from loraudit.verdict.judge import judge
from loraudit.verdict.people import returned
from loraudit.verdict.policy import Policy
from loraudit.verdict.stopping import asks_for_controls, enough, settled
from loraudit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from loraudit.attacks.aim import Reconstruction
    from loraudit.attacks.plan import Plan
    from loraudit.audit.setup import Setup
    from loraudit.evidence.faces import AttackEvidence
    from loraudit.evidence.kinds import Evidence
    from loraudit.evidence.likelihood import Likelihood
    from loraudit.lora import LoRA

__all__ = ["audit_lora"]


def audit_lora(
    lora: LoRA,
    setup: Setup,
    plan: Plan,
    keep: Callable[[Reconstruction], None] = lambda _found: None,
    on_step: OnStep = unheard,
) -> Report:
    """Attack `lora` with all that `setup` holds, as far as `plan` goes, and report what came back.

    Without scorers the pictures are made but not judged. `keep` receives the pictures. `on_step` receives the
    number of pictures done, their total (0 if not known yet) and the name of what runs. Raises `NotScannable`
    if the LoRA does not fit the base.
    """
    # Prompts end at the layer of the text tower that the file says it was trained at.
    base = setup.base.skipping(recorded_clip_skip(lora.file.metadata))
    setup = replace(setup, base=base)
    scorers, policy = setup.scorers, Policy()

    # 1. Each attack aims: embeddings at which the model may draw whom it was tuned on.
    aims, missed = setup.aims(lora, on_step)
    aims = plan.in_order(aims)
    null, calibration = setup.null(lora, aims, plan)

    # 2. The plan draws at every aim, and the controls that it asks for, until more would change nothing.
    pictured: list[AttackEvidence] = []
    ran = pictures = matching = 0

    def asks(found: Reconstruction) -> bool:
        if scorers is None:
            # Pictures that nobody judges are kept beside all of their controls.
            return True
        seen = found.weighed(scorers)
        # Few controls are left for the last aim, unless a person asks for them before.
        may_ask = plan.controls is None or found.aim is aims[-1]
        return asks_for_controls(seen, len(aims), policy, null) or (
            may_ask and asks_what(seen, pictured, policy.min_faces, policy.high_p)
        )

    def is_settled(found: Reconstruction) -> bool:
        return scorers is not None and settled(
            found.weighed(scorers), len(plan.seeds), len(aims), policy, null
        )

    def is_enough() -> bool:
        return scorers is not None and enough(pictured, len(aims), policy, null)

    for found in plan.reconstruct(lora, base, aims, on_step, asks, is_settled, is_enough, setup.kept):
        ran, pictures, matching = ran + 1, pictures + found.drawn, matching + found.matching
        if broken := found.gap(base):
            missed.append(broken)
            continue
        keep(found.ranked(scorers) if scorers else found)
        if scorers:
            pictured.append(found.weighed(scorers))

    # 3. The owner's photos are compared without a picture, unless the verdict stands already.
    stands = bool(setup.tests and pictured) and plan.sequential and is_enough()
    tests = [] if stands else list(setup.tests)
    aim = aims[0] if aims else setup.quiet_aim(lora, on_step) if tests else None
    compared: list[Likelihood] = []
    if aim is not None:
        for test in tests:
            on_step(0, 0, f"attack {test.name}")
            compared.append(test.run(base.with_lora(lora), base, aim.embedding))

    # 4. All of it is judged. Without scorers there is no evidence, which is not evidence of nothing.
    evidence: list[Evidence] = [*pictured, *compared]
    sought = aims or ([aim] if aim else [])
    searched = sum(one.evaluations for one in sought)
    findings = judge(evidence, policy, null, len(aims)) if scorers or evidence else ()
    return Report(
        version=__version__,
        target=target_of(lora),
        findings=findings,
        scores=score_table(evidence),
        settings=Settings(
            base=base.name,
            base_fingerprint=base.fingerprint,
            encoder=next((one.encoder for one in sought if one.encoder), None),
            attacks=(*(one.attack for one in aims[:ran]), *(test.name for test in tests)),
            skipped=(
                *(one.attack for one in aims[ran:]),
                *(test.name for test in setup.tests if stands),
            ),
            seeds=plan.seeds if setup.attacks else (),
            budget=plan.budget if setup.attacks else None,
            evaluations=Evaluations(
                searched + plan.evaluations(pictures) + matching + sum(test.evaluations for test in tests),
                searched + plan.most(aims) + sum(test.evaluations for test in setup.tests),
            ),
            calibration=calibration,
            device=plan.device(base),
            dtype=str(base.dtype).removeprefix("torch."),
        ),
        incomplete=(*setup.gaps, *unread_gaps(lora), *missed),
        update=update_of(lora),
        distributions=distributions(pictured, null),
        people=returned(findings, pictured),
    )
