"""Every rule explained: what is looked at, which level when, what follows, what to do.

Reports use the words of `rules` and `metadata`; the numbers of the levels are those of the policy.
`loraudit rules` and docs/rules.md are made of this catalogue.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from loraudit.findings.finding import Severity
from loraudit.metadata.judge import METADATA_RULES
from loraudit.verdict.policy import Policy
from loraudit.verdict.rules import ACCEPTED, AGREEMENT, COPIES, LIKELIHOOD, TOO_FEW_FACES, Rule
from loraudit.verdict.standards import Standard, standards_of

__all__ = ["Explained", "catalogue"]


@dataclass(frozen=True)
class Explained:
    """A rule in plain words."""

    id: str
    title: str
    """Title of the gravest finding."""
    looks_at: str
    levels: Mapping[Severity, str]
    """Severities that a finding can have, gravest first, and when; empty text if there is only one."""
    meaning: str
    """Consequence for the people concerned."""
    remedy: str
    """Advice on what to do."""

    @property
    def standards(self) -> tuple[Standard, ...]:
        """Entries of public catalogues of risks that the rule belongs to."""
        return standards_of(self.id)


_LOOKS_AT: Mapping[str, tuple[str, Mapping[Severity, str]]] = {
    "LA-NAME-001": (
        "Folder names such as '10_jane doe person', which kohya copies into ss_dataset_dirs, "
        "ss_tag_frequency and ss_datasets. OneTrainer's concepts in ot_config, and the names of bundled "
        "embeddings. Learned tokens such as '<jane-doe>', as a key or a tensor. What stands under keys such "
        "as person, character or subject. In the tensor names, the name of an adapter of any of peft's "
        "tuners, and a word that is the whole name or stands before all layers. Folders of pictures beside "
        "the file that are named so. Names of people that photo programs write into a picture in or beside "
        "the file, often with the place of the face. Words of trainers, numbers and well-known placeholders "
        "(sks, ohwx) are no names.",
        {
            Severity.HIGH: "the name stands beside a class word such as person or woman, or a picture gives "
            "it as a person's",
            Severity.MEDIUM: "otherwise: 'jane doe' may be a person, 'red car' is none, and no list tells "
            "them apart",
        },
    ),
    "LA-NAME-002": (
        "ss_output_name, and the old one in ss_before_falsification_output_name. modelspec.title, "
        "modelspec.merged_from, and other keys for a name or title. The name of the file.",
        {
            Severity.MEDIUM: "in the metadata, with low confidence",
            Severity.LOW: "in the name of the file: two words that mean nothing to a trainer, or one that "
            "the file itself uses",
        },
    ),
    "LA-CAPTION-001": (
        "ss_tag_frequency, tag_frequency and caption prefixes in ss_datasets, prompts in ot_config; beside "
        "the file, captions of pictures of the same name. A caption without a comma is there as a whole "
        "sentence.",
        {Severity.MEDIUM: ""},
    ),
    "LA-CAPTION-002": (
        "modelspec.trigger_phrase, usage_hint, tags, description and comment, trained_words, "
        "ss_training_comment, ssmd_keywords, and keys of such names in any spelling: 'Trigger Words', "
        "'activation text', prompt. Any other key of the file's own with words in a row, or that is words "
        "itself. Words that no program writes, where scrub keeps what programs write. The same in side "
        "files that Civitai, AUTOMATIC1111 and managers of LoRAs keep, and in adapter_config.json. ComfyUI's "
        "graph in prompt and workflow, widgets_values included. In the README, instance_prompt, widget "
        "prompts and keys of such names. A folder's own words where a picture had no caption. In pictures in "
        "and beside the file, prompts of AUTOMATIC1111, ComfyUI and others, comments, titles, descriptions, "
        "keywords, and words in a row under any other key. Texts that programs and cameras write into every "
        "picture do not count. The attack tries these words too.",
        {Severity.LOW: ""},
    ),
    "LA-IMAGE-001": (
        "modelspec.thumbnail, ssmd_cover_images, and any value that starts as a picture does. The type is "
        "told from the first characters; no picture is shown. Its words have rules of their own.",
        {Severity.HIGH: ""},
    ),
    "LA-IMAGE-002": (
        "Pictures and films in the folder and below, or the previews of a single file. Words in the pictures "
        "have rules of their own.",
        {Severity.LOW: ""},
    ),
    "LA-IMAGE-003": (
        "Coordinates in Exif and XMP of pictures in or beside the file, and the town or place in IPTC and "
        "XMP. "
        "Zeros, which programs leave that take the place away, do not count.",
        {Severity.MEDIUM: ""},
    ),
    "LA-PICKLE-001": (
        "Files that end in .bin, .pt, .pth, .ckpt, .pkl, .pickle, .joblib or .dill: in the folder that is "
        "scanned, or, beside a single file, those of its name. Only names are looked at.",
        {Severity.MEDIUM: ""},
    ),
    "LA-BESIDE-001": (
        "Files beside the LoRA that end as archives do, or as tables and caches of pictures: '.zip', '.7z', "
        "'.rar', '.tar', '.gz', '.parquet', '.npz' and others. Their names are told, and none is opened.",
        {Severity.MEDIUM: ""},
    ),
    "LA-PATH-001": (
        "Absolute paths, of Windows and of Unix, in any text.",
        {
            Severity.MEDIUM: r"one names an account or another computer: /home/jane/…, C:\Users\jane\…, "
            r"\\nas\…",
            Severity.LOW: "otherwise",
        },
    ),
    "LA-CONTACT-001": (
        "E-mail addresses, telephone numbers and profiles on social networks in any text. The author or "
        "source that a trainer was told. The artist or owner of the camera in a picture in or beside the "
        "file. "
        "Telephone numbers have +, a country code and separators, or a word such as 'tel:' before them. "
        "Other digits are seeds, hashes and dates.",
        {Severity.MEDIUM: "an address, number or profile", Severity.LOW: "an author, source or owner"},
    ),
    "LA-SECRET-001": (
        "Tokens of Hugging Face, OpenAI, GitHub, GitLab, AWS, Google, Slack and others by gitleaks' shapes, "
        "JSON web tokens, private keys, links with a password, values under names such as api_key. Six "
        "characters at most are ever shown, in this finding and in every other, with --reveal too.",
        {Severity.CRITICAL: ""},
    ),
    "LA-LINK-001": (
        "ss_session_id, ss_seed, start and end of training, sshs_* and modelspec.hash_sha256, "
        "modelspec.date; the serial number of a camera or lens in a picture in or beside the file. Hashes "
        "of a public base model, which thousands of files share, do not count. Once scrubbed, AUTOMATIC1111 "
        "and Civitai no longer find the file by its embedded hash.",
        {Severity.LOW: ""},
    ),
    "LA-LINK-002": (
        "modelspec.date, which kohya writes in local time, and ss_training_finished_at, the same second in "
        "UTC. An offset of zero is none, as rented machines run on UTC.",
        {Severity.LOW: ""},
    ),
    "LA-DATASET-001": (
        "Counts of pictures, repeats and epochs.",
        {Severity.LOW: ""},
    ),
    "LA-HIDDEN-001": (
        "A metadata key or tensor named twice (loaders take the last), or a key named twice in nested JSON. "
        "Fields of a tensor that mean nothing, white space around the header, a block of 1,024 characters or "
        "more that spells nothing. The other rules read this text too.",
        {Severity.MEDIUM: ""},
    ),
    "LA-HIDDEN-002": (
        "JSON that is broken, nested without end or too long: more than 200,000 of `{`, `[`, `,` and `:` in "
        "the file, and 20,000 more for each of the first 100 pictures beside it. Texts of a picture that "
        "break off or are longer than a megabyte, a prompt in its pixels that is broken or longer than "
        "64 kB. More than 20,000 keys in the file, a million characters under them or 50 secrets, or beside "
        "it 1,000 pictures or 10,000 files. Files beside it that cannot "
        "be opened.",
        {Severity.INCONCLUSIVE: ""},
    ),
}
"""Metadata rule => what is looked at, and which level when."""


def catalogue() -> tuple[Explained, ...]:
    """Return every rule: first those about words, then those about weights, each group by id."""
    words = (
        Explained(rule.id, rule.title, *_LOOKS_AT[rule.id], rule.meaning, rule.remedy)
        for rule in METADATA_RULES.values()
    )
    return (*sorted(words, key=lambda rule: rule.id), *_weights(Policy()))


def _weights(policy: Policy) -> Iterator[Explained]:
    conformal = (
        f"also needs p <= {policy.high_p:g} among control LoRAs, medium p <= {policy.medium_p:g} and low "
        f"p <= {policy.low_p:g}."
    )
    yield _identity(
        AGREEMENT,
        "Do reconstructions of different seeds agree on one person, more than those of the base model and "
        "of a scrambled copy of the LoRA do? No reference photos are needed. The number is the share of "
        f"pairs of pictures that show one face. A level needs p <= {policy.alpha:g} for such a share by "
        "chance, corrected for the number of attacks without calibration data. Where calibration data fit "
        f"the scan, high {conformal} A file that changes the model in more directions than LoRAs of one "
        f"person do (p <= {policy.high_p:g}), as several LoRAs merged do, keeps its level with low "
        "confidence: the face may be a blend. Where several people come back, each is counted, and pairs of "
        "two of them are left out of the share.",
        {
            Severity.HIGH: f"a share of {policy.high_agreement:.2f} or more, and a 95 % interval above both "
            "controls",
            Severity.MEDIUM: f"a share of {policy.medium_agreement:.2f} or more",
            Severity.LOW: f"a share of {policy.low_agreement:.2f} or more",
            Severity.INCONCLUSIVE: f"a share of {policy.high_agreement:.2f} or more, but a control agrees "
            "about as much",
            Severity.NONE: "otherwise",
        },
        "The person can be drawn by anybody who has the file, whatever was cut from its metadata.",
    )
    yield _identity(
        ACCEPTED,
        "With --reference: how many reconstructions pass as the person in the photos, against those of the "
        "controls? The face model decides at a stated rate of false accepts. Where calibration data fit the "
        f"scan, high or critical {conformal} That p is of the mean cosine of the pictures to the photos.",
        {
            Severity.CRITICAL: f"two pictures or more, and a 95 % interval that begins at "
            f"{policy.critical_low:.2f} or above, and above both controls",
            Severity.HIGH: f"the same, beginning at {policy.high_low:.2f} or above",
            Severity.MEDIUM: "two pictures or more, and a 95 % interval above both controls; or, where "
            "calibration data fit, the likeness: a mean cosine beyond chance of both controls, with p <= "
            f"{policy.high_p:g} among LoRAs of other people",
            Severity.LOW: "a larger share than that of both controls; or the likeness with p <= "
            f"{policy.medium_p:g}",
            Severity.INCONCLUSIVE: "some pictures pass, with calibration data "
            f"{policy.least_accepted(calibrated=True)} or more, but a control comes as close",
            Severity.NONE: "otherwise",
        },
        f"The file is a likeness of that person. {ACCEPTED.caveat}",
    )
    yield _identity(
        LIKELIHOOD,
        "With --reference, where photos of other people are at hand to compare with: does the file make the "
        "owner's photos more probable than theirs? The number is the fall of the denoising loss that the "
        "file brings about. The p-value is the place of the owner's photos among those of the others.",
        {
            Severity.MEDIUM: f"p <= {policy.high_p:g}",
            Severity.LOW: f"p <= {policy.medium_p:g}",
            Severity.NONE: "otherwise",
        },
        f"Whoever has a photo can confirm that the file is of that person. {LIKELIHOOD.caveat}",
    )
    yield _identity(
        COPIES,
        "With --reference: is a picture not only of the person, but one of the photos? The number is the "
        "share of pictures that are nearer to a photo by a margin, tile by tile, than every control picture. "
        "The finding states the margin. Control pictures are of the base model and of a scrambled copy of "
        "the LoRA. Another photo of the same person does not count. Copies that are mirrored, cut otherwise "
        "or shifted are missed. Where no photo came back there is no finding; the score copies has the "
        "number.",
        {
            Severity.CRITICAL: f"two pictures or more, and a 95 % interval that begins at "
            f"{policy.critical_low:.2f} or above",
            Severity.HIGH: "two pictures or more",
            Severity.MEDIUM: "one picture",
            Severity.INCONCLUSIVE: "there are no pictures to compare",
        },
        "Whoever has the file has that photo, with all that is on it: who else, where, in what clothes.",
    )
    yield Explained(
        TOO_FEW_FACES.id,
        TOO_FEW_FACES.words[Severity.INCONCLUSIVE].title,
        f"Does the face model find a face in at least {policy.min_faces} of an attack's pictures?",
        {
            Severity.INCONCLUSIVE: "it does not",
            Severity.NONE: "it does not, and the file is the reason: the base model and scrambled copies as "
            f"strong as the file show faces, each at p <= {policy.high_p:g}. Where calibration data fit, "
            f"hardly a LoRA of one person agrees as little (p <= {policy.medium_p:g})",
        },
        TOO_FEW_FACES.caveat,
        TOO_FEW_FACES.next_step,
    )


def _identity(rule: Rule, looks_at: str, levels: Mapping[Severity, str], meaning: str) -> Explained:
    worst = max(rule.words)
    remedy = f"{rule.remedy} {rule.without_photos}".rstrip()
    return Explained(rule.id, rule.words[worst].title, looks_at, levels, meaning, remedy)
