"""Words that no output may show: secrets, and the words that a stranger's file is made of.

`mask` is for texts that may be shown on demand: whatever is asked for, a secret in them stays hidden.
`named` is for names out of a file that stand in a message: a tensor, a type, a field. Of such a name only
the words of trainers and networks are kept, so that a message may be printed anywhere.

Shapes of tokens: the rules of gitleaks (https://github.com/gitleaks/gitleaks, `cmd/generate/config/rules`).
Every expression starts with fixed characters and looks ahead no further than a bound. Any text is therefore
searched in time linear in its length.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator
from functools import cache
from typing import Final, NamedTuple

__all__ = ["HIDDEN", "is_public", "mask", "masked", "named", "secrets"]

HIDDEN: Final = "(hidden)"
"""Stand-in for words of a file."""

_SHOWN: Final = 6
"""Limit in characters on the part of a secret that is shown, enough to find it by."""
_LONG: Final = 10
"""Length in characters from which a secret is shown in that part."""
_SHORTEST: Final = 4
"""Length in characters from which a secret is looked for inside of words."""


class _Shape(NamedTuple):
    """Shape of a secret."""

    start: str
    """Characters that every such secret begins with or holds."""
    pattern: str
    """Regular expression, compiled once the start is met: few texts hold any."""
    entropy: float
    """Least entropy in bits a character without a digit: `hf_xxxxxxxx` stands for a token and is none."""
    digit: bool
    """True if a word of hyphens would have the shape, but for a digit."""


def _shapes(*rules: tuple[str, str, float, bool]) -> tuple[_Shape, ...]:
    return tuple(
        _Shape(
            start,
            rf"{re.escape(start)}(?<![A-Za-z0-9_]{re.escape(start)}){rest}",
            entropy,
            digit,
        )
        for starts, rest, entropy, digit in rules
        for start in starts.split()
    )


_SHAPES: Final = (
    *_shapes(
        ("hf_ api_org_", r"[A-Za-z]{34}(?![A-Za-z0-9])", 2, False),
        ("hf_ api_org_", r"[A-Za-z0-9]{30,64}", 2, True),
        ("ghp_ gho_ ghu_ ghs_ ghr_", r"[A-Za-z0-9]{36,255}", 3, False),
        ("github_pat_", r"[A-Za-z0-9_]{40,255}", 3, False),
        ("sk-", r"[A-Za-z0-9]{48}(?![A-Za-z0-9])", 3, False),
        ("sk-proj- sk-svcacct- sk-admin- sk-ant-", r"[A-Za-z0-9_-]{40,255}", 3, False),
        ("sk-", r"[A-Za-z0-9_-]{20,255}", 2, True),
        ("AKIA ASIA ABIA ACCA", r"[A-Z0-9]{16}(?![A-Za-z0-9])", 3, False),
        ("A3T", r"[A-Z0-9]{17}(?![A-Za-z0-9])", 3, False),
        ("AIza", r"[A-Za-z0-9_-]{35}", 3, False),
        ("GOCSPX-", r"[A-Za-z0-9_-]{28}", 3, False),
        ("glpat- gldt- glrt- glptt- glft- glimt- glagent- gloas- glsoat- glffct- glcbt-",
         r"[A-Za-z0-9_-]{20,300}", 3, False),
        ("GR1348941", r"[A-Za-z0-9_-]{20}", 3, False),
        ("xoxb- xoxp- xoxe- xoxo- xoxs- xoxe.xoxb- xoxe.xoxp-", r"[A-Za-z0-9-]{10,250}", 2, True),
        ("xoxa- xoxr-", r"(?:\d-)?[A-Za-z0-9]{8,48}", 2, False),
        ("xapp-", r"\d-[A-Za-z0-9]{1,40}-\d{1,20}-[A-Za-z0-9]{1,100}", 2, False),
        ("hooks.slack.com/", r"(?:services|workflows|triggers)/[A-Za-z0-9+/]{43,60}", 2, False),
        ("discord.com/ discordapp.com/", r"api/webhooks/\d{17,20}/[\w-]{60,80}", 2, False),
        ("npm_", r"[A-Za-z0-9]{36}", 2, False),
        ("pypi-AgEIcHlwaS5vcmc", r"[\w-]{50,1000}", 3, False),
        ("SG.", r"[\w=.-]{66}", 2, False),
        ("sk_ rk_", r"(?:test|live|prod)_[A-Za-z0-9]{10,99}", 2, False),
        ("shpat_ shpca_ shppa_ shpss_", r"[A-Fa-f0-9]{32}", 2, False),
        ("dop_v1_ doo_v1_ dor_v1_", r"[a-f0-9]{64}", 3, False),
        ("dapi", r"[a-f0-9]{32}(?:-\d)?", 3, False),
        ("gsk_", r"[A-Za-z0-9]{52}", 3, False),
        ("pplx-", r"[A-Za-z0-9]{48}", 3, False),
        ("lsv2_pt_ lsv2_sk_", r"[a-f0-9]{32}_[a-f0-9]{10}", 3, False),
        ("r8_", r"[A-Za-z0-9]{37}", 3, False),
        ("hvs.", r"[\w-]{90,120}", 3, False),
        ("AGE-SECRET-KEY-1", r"[A-Z0-9]{58}", 2, False),
        ("ey", r"[A-Za-z0-9]{17,2000}\.ey[A-Za-z0-9/\\_-]{17,4000}\.(?:[A-Za-z0-9/\\_-]{10,2000}={0,2})?",
         3, False),
    ),
    # What a link or a shell command hands over: Civitai's keys have no shape of their own.
    _Shape("token=", r"token=[A-Za-z0-9_.-]{16,255}", 3, True),
    _Shape("Bearer ", r"Bearer [A-Za-z0-9_.~+/-]{16,2000}={0,2}", 3, True),
    _Shape("://", r"://[^\s/@:\"']{1,100}:[^\s/@\"']{1,200}@", 0, False),
    _Shape(
        "PRIVATE KEY",
        r"-----BEGIN[ A-Za-z0-9_-]{0,100}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:(?:[^-]|-(?!----)){0,20000}(?:-----END[ A-Za-z0-9_-]{0,100}-----)?)",
        0,
        False,
    ),
)  # fmt: skip
_VALUE: Final = re.compile(r"[:=][ \t]{0,3}[\"']?(?P<secret>[\w.+/-]{16,200}={0,2})")
_LABEL: Final = re.compile(r"(?:key|token|secret|password|passwd|pwd)[\"']?\s{0,3}$", re.IGNORECASE)
_SCHEME: Final = re.compile(r"[a-z][a-z+]{0,11}$", re.IGNORECASE)

_KNOWN: Final = """
a adalora adapter adaption add alpha attention attentions attn attn1 attn2 b b1 b2 base bf16 bfloat16 bias
block blocks boft bone bool bundle c128 c64 cfg class clip complex64 cond config connection context
control controlnet conv conv1 conv2 cpt cross custom data decoder default diff diffusion dora double down
downsamplers dtype e2m1 e4m3 e4m3fn e4m3fnuz e5m2 e5m2fnuz e8m0 e8m0fnu emb embed embedder embedding
embeddings embeds encoded encoder encoders f16 f32 f4 f6 f64 f8 fc1 fc2 ff ffn final first float16 float32
float64 fnuz format fourierft full g gate glora guidance hada head heads hint hra i i16 i32 i64 i8 ia3
image img in input ip joint json k key keys l layer layers linear list llm ln local logit loha lokr lora
lora_ga loraplus lycoris magnitude main mapping metadata mid middle miss mlp mod model models modulation
module modules motion multitask neck net network networks none norm norm1 norm2 norm3 null num o offsets
oft op orig original out output p param params pattern peft poly pooled pooler position positional prefix
prior processor proj projection prompt q qkv query r randlora rank refiner residual residuals resnets road
s save scale scheduler self shape shift shira shortcut single skip spatial stage state string t t1 t2 t5
t5xxl te te1 te2 te3 temporal tensor tensors text time timestep to token tokens tower trainable
transformer transformers tuning txt type u16 u32 u64 u8 unet unets up upsamplers v vae value vblora vector
vera vision w w1 w2 weight weights x xl xlora y z
"""
_WORDS: Final = frozenset(_KNOWN.split())
"""Words of networks, layouts, adapters and number formats, in small letters."""
_RUN: Final = re.compile(r"[^._:/-]+")
_HIDDEN_RUNS: Final = re.compile(rf"{re.escape(HIDDEN)}(?:[._:/-]{{0,4}}{re.escape(HIDDEN)})+")
_INDEX: Final = re.compile(r"[0-9]{1,3}")
_LONGEST_NAME: Final = 400


def secrets(text: str) -> list[str]:
    """Find tokens, private keys and links with a password in `text`, each once, in their order."""
    return list(dict.fromkeys(text[start:end] for start, end in _spans(text)))


def mask(text: str, known: Collection[str] = ()) -> str:
    """Cut every secret in `text`, and every one of the `known` ones, to a few characters and an ellipsis.

    Masking what is masked changes nothing.
    """
    for secret in sorted(known, key=len, reverse=True):
        if secret in text:
            text = _within(secret).sub(lambda found: masked(found[0]), text)
    spans = _spans(text)
    if not spans:
        return text
    parts, at = [], 0
    for start, end in spans:
        parts += [text[at:start], masked(text[start:end])]
        at = end
    return "".join([*parts, text[at:]])


def masked(secret: str) -> str:
    """Cut `secret` to six characters, a short one to a quarter: a report must not be the next leak."""
    bare = secret.strip()
    return f"{bare[: _SHOWN if len(bare) >= _LONG else len(bare) // 4]}…"


def named(name: object) -> str:
    """Keep of a `name` out of a file what belongs to networks and trainers; hide every other word.

    `bundle_emb.jane doe.string_to_param` gives `bundle_emb.(hidden).string_to_param`. Numbers of up to three
    digits stay.
    """
    text = str(name)
    cut = text[:_LONGEST_NAME]
    shown = _RUN.sub(lambda run: run[0] if _is_known(run[0]) else HIDDEN, cut)
    shown = _HIDDEN_RUNS.sub(HIDDEN, shown)
    return shown if len(text) <= _LONGEST_NAME else f"{shown}…"


def is_public(name: str) -> bool:
    """Tell whether `name` is made of words of networks and trainers alone."""
    return len(name) <= _LONGEST_NAME and all(_is_known(run) for run in _RUN.findall(name))


def _is_known(word: str) -> bool:
    return word.lower() in _WORDS or _INDEX.fullmatch(word) is not None


def _within(secret: str) -> re.Pattern[str]:
    """Make the pattern for `secret`; a short one counts only as a word of its own."""
    bare = re.escape(secret)
    return re.compile(bare if len(secret) >= _SHORTEST else rf"(?<!\w){bare}(?!\w)")


def _spans(text: str) -> list[tuple[int, int]]:
    """Find the places of all secrets in `text`; those that meet become one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(_found(text)):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def _found(text: str) -> Iterator[tuple[int, int]]:
    for shape in _SHAPES:
        if shape.start not in text:
            continue
        for match in _compiled(shape.pattern).finditer(text):
            token = match[0]
            if not any(char.isdigit() for char in token) and (shape.digit or _entropy(token) < shape.entropy):
                continue
            start = match.start()
            if shape.start == "://":
                scheme = _SCHEME.search(text[max(0, start - 12) : start])
                start -= len(scheme[0]) if scheme else 0
            yield start, match.end()
    for match in _VALUE.finditer(text):
        token = match["secret"]
        if (
            any(char.isdigit() for char in token)
            and _entropy(token) >= 3.5
            and _LABEL.search(text[max(0, match.start() - 16) : match.start()])
        ):
            yield match.span("secret")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _entropy(text: str) -> float:
    """Compute the entropy of the characters of `text`, in bits a character."""
    shares = [count / len(text) for count in Counter(text).values()]
    return -sum(share * math.log2(share) for share in shares)
