"""The rules about weights: stable ids, and the words for each severity of each rule."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from loraudit.findings.finding import Severity

__all__ = [
    "ACCEPTED",
    "AGREEMENT",
    "ALIKE",
    "BLEND",
    "COPIES",
    "LIKELIHOOD",
    "NO_CONTROLS",
    "SEVERAL",
    "TOO_FEW_FACES",
    "Doubt",
    "Rule",
    "Words",
]


@dataclass(frozen=True)
class Words:
    """Words of a finding of one severity."""

    title: str
    summary: str
    """Sentence of the verdict."""
    next_step: str = ""
    """Advice instead of the rule's `next_step`, or after its `remedy`; otherwise empty."""


class Doubt(Enum):
    """Reason why a scan cannot tell: a control that comes as close."""

    BASE = "base model"
    SCRAMBLED = "scrambled LoRA"
    CONTROLS = "control LoRAs"


@dataclass(frozen=True)
class Rule:
    """A question that a scan asks about the weights."""

    id: str
    """Stable name, `LA-IDENTITY-001`; never reused for another question."""
    words: Mapping[Severity, Words]
    seen: str
    """Second half of a sentence that begins "Attack X: k of n"."""
    caveat: str
    """Limit of the number; in `TOO_FEW_FACES` and `COPIES`, the reason why nothing can be told."""
    remedy: str
    """Advice when something came back."""
    next_step: str
    """Advice when nothing came back, or when the scan cannot tell."""
    doubts: Mapping[Doubt, Words] = field(default_factory=dict)
    """Words of an inconclusive finding, by the reason why the scan cannot tell."""
    without_photos: str = ""
    """Further advice where there were no reference photos."""
    controls: str = ""
    """LoRAs whose scores the calibration data hold."""


AGREEMENT = Rule(
    id="LA-IDENTITY-001",
    words={
        Severity.HIGH: Words(
            "One consistent person comes back from the weights",
            "An adversary with this file and the public base model gets back one consistent person.",
        ),
        Severity.MEDIUM: Words(
            "Many reconstructions agree on one person",
            "An adversary with this file and the public base model often gets back the same person.",
        ),
        Severity.LOW: Words(
            "Reconstructions lean towards one person",
            "An adversary with this file and the public base model gets back faint hints of one person.",
        ),
        Severity.NONE: Words(
            "No consistent person came back",
            "These attacks, at this budget, got no consistent person back.",
        ),
    },
    seen="pairs of pictures from different seeds show one face",
    caveat="",
    remedy=("Share the file only where you would share its training photos; scrubbing takes nobody out."),
    next_step="Before you rely on this, scan again with --budget deep.",
    without_photos="--reference PHOTOS asks about one person.",
    doubts={
        Doubt.BASE: Words(
            "Reconstructions agree, but not clearly more than the base model's",
            "One person comes back, but the base model alone may do as much: this scan cannot tell.",
        ),
        Doubt.SCRAMBLED: Words(
            "The controls disagree: a scrambled copy of the LoRA agrees with itself about as much",
            "Reconstructions agree more than the base model's, but not clearly more than a scrambled copy's, "
            "which holds nobody: this scan cannot tell.",
        ),
        Doubt.CONTROLS: Words(
            "Reconstructions agree, but those of LoRAs that hold no single person do as well",
            "Reconstructions agree on one face, but so do those of control LoRAs that hold no single person: "
            "this scan cannot tell.",
        ),
    },
    controls="control LoRAs that hold no single person",
)

ACCEPTED = Rule(
    id="LA-IDENTITY-002",
    words={
        Severity.CRITICAL: Words(
            "The person in the reference photos comes back",
            "An adversary with this file and the public base model gets back the person in your photos.",
        ),
        Severity.HIGH: Words(
            "Some reconstructions are the person in the reference photos",
            "An adversary with this file and the public base model gets back the person in your photos "
            "in some of the pictures.",
        ),
        Severity.MEDIUM: Words(
            "A few reconstructions are the person in the reference photos",
            "An adversary with this file and the public base model gets back the person in your photos "
            "in a few of the pictures.",
        ),
        Severity.LOW: Words(
            "A reconstruction resembles the person in the reference photos",
            "An adversary with this file and the public base model gets a faint likeness of the person "
            "in your photos.",
        ),
        Severity.NONE: Words(
            "The person in the reference photos did not come back",
            "These attacks, at this budget, did not get back the person in your photos.",
        ),
    },
    seen="pictures pass as the person in the photos",
    caveat="Relatives and look-alikes pass more easily than strangers.",
    remedy=(
        "Do not share this file without that person's consent, and take it down where it is public: every "
        "copy is a likeness, with or without metadata."
    ),
    next_step=(
        "Before you rely on this, scan again with --budget deep and with more reference photos, in other "
        "light and poses."
    ),
    doubts={
        Doubt.BASE: Words(
            "The base model alone comes as close to the reference photos",
            "Pictures resemble your photos, but so do the base model's: this scan cannot tell.",
        ),
        Doubt.SCRAMBLED: Words(
            "The controls disagree: a scrambled copy of the LoRA comes as close to the reference photos",
            "Pictures resemble your photos, but so do those of a scrambled copy of the LoRA, which holds "
            "nobody: this scan cannot tell.",
        ),
        Doubt.CONTROLS: Words(
            "LoRAs of other people come as close to the reference photos",
            "Pictures resemble your photos, but so do those of LoRAs of other people: this scan cannot tell.",
        ),
    },
    controls="LoRAs of other people",
)

LIKELIHOOD = Rule(
    id="LA-IDENTITY-004",
    words={
        Severity.MEDIUM: Words(
            "The file may know the person in the reference photos",
            "The weights make the photos you gave more probable than those of other people.",
        ),
        Severity.LOW: Words(
            "The file leans towards the person in the reference photos",
            "The weights make the photos you gave more probable than those of most other people.",
        ),
        Severity.NONE: Words(
            "The file knows the reference photos no better than others",
            "The weights make the photos you gave no more probable than those of other people.",
        ),
    },
    seen="other people, by the loss of denoising them with and without it. No picture was generated.",
    caveat="Relatives and look-alikes profit as well.",
    remedy=(
        "Treat the file as one of that person, even if no reconstruction shows them: somebody with a photo "
        "can confirm who is in the file."
    ),
    next_step="Before you rely on this, give more reference photos, in other light and poses.",
)

BLEND = Words(
    "One face comes back, and the file looks like several LoRAs merged",
    "An adversary with this file and the public base model gets back one face, perhaps a blend of several "
    "people: the file changes the model in more directions than LoRAs of one person do.",
    "To tell whose face it is, scan the parts before the merge, or the file with photos of each person.",
)
"""Words of `AGREEMENT` where the file looks like several LoRAs merged, whatever the severity."""

SEVERAL = {
    Severity.HIGH: Words(
        "Several people come back from the weights",
        "An adversary with this file and the public base model gets back several people, each of them "
        "again and again.",
    ),
    Severity.MEDIUM: Words(
        "Many reconstructions agree on one of several people",
        "An adversary with this file and the public base model often gets back the same few people.",
    ),
    Severity.LOW: Words(
        "Reconstructions lean towards several people",
        "An adversary with this file and the public base model gets back faint hints of several people.",
    ),
}
"""Words of `AGREEMENT` where the pictures show more than one person."""

ALIKE = Words(
    "Reconstructions resemble the person in the reference photos",
    "An adversary with this file and the public base model gets pictures that resemble the person in your "
    "photos more than those of other LoRAs do.",
)
"""Words of `ACCEPTED` where the likeness speaks and hardly a picture passes."""

NO_CONTROLS = "too little for a finding beside any controls, so none were drawn"
"""Words for controls that the pictures did not ask for."""

COPIES = Rule(
    id="LA-COPY-001",
    words={
        Severity.CRITICAL: Words(
            "A reference photo itself comes back",
            "An adversary with this file and the public base model gets back a photo of yours, nearly as "
            "it is.",
        ),
        Severity.HIGH: Words(
            "Some pictures nearly copy a reference photo",
            "An adversary with this file and the public base model gets near-copies of a photo of yours in "
            "some of the pictures.",
        ),
        Severity.MEDIUM: Words(
            "One picture nearly copies a reference photo",
            "An adversary with this file and the public base model gets a near-copy of a photo of yours.",
        ),
        Severity.INCONCLUSIVE: Words(
            "Near-copies of the photos could not be looked for",
            "Whether a photo of yours came back cannot be told.",
        ),
    },
    seen="pictures nearly copy a reference photo, at most",
    caveat="There are no pictures of the file, or none of the controls, to compare.",
    remedy=(
        "Do not share this file: it holds the photo, and with it all that the photo shows. Train again with "
        "more photos, fewer steps and a lower rank, without any photo that must not get out."
    ),
    next_step="Scan again, with other settings: the pictures were broken.",
)

TOO_FEW_FACES = Rule(
    id="LA-IDENTITY-003",
    words={
        Severity.INCONCLUSIVE: Words(
            "Too few faces to compare",
            "Too few reconstructions show a face: this scan cannot tell what the file gives away.",
        ),
        Severity.NONE: Words(
            "The file draws something other than a face",
            "No person came back, and the file seems to hold something else: a thing, a style or a place.",
            "Before you rely on this, look at the pictures with --save-images DIR.",
        ),
    },
    seen="reconstructions show a face",
    caveat="A picture without a face says nothing about the person in the file.",
    remedy="",
    next_step=(
        "Scan again with more pictures (--budget deep) or steps (--steps), and look at the pictures with "
        "--save-images DIR. Check that the file was trained on this base model (--base)."
    ),
)
