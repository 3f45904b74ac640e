"""Shapes of secrets: tokens of known services, private keys, links with a password, labelled values.

Shapes of tokens: those of gitleaks (https://github.com/gitleaks/gitleaks, `cmd/generate/config/rules`) that
begin with characters of their own. Every expression starts with fixed characters and looks ahead no further
than a bound. Any text is therefore searched in time linear in its length.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Final, NamedTuple

__all__ = ["spans"]


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
        ("A3-", r"[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){3}", 3.8, False),
        ("ops_eyJ", r"[A-Za-z0-9+/]{250,2000}={0,3}", 4, False),
        ("p8e-", r"[A-Za-z0-9]{32}", 2, True),
        ("LTAI", r"[A-Za-z0-9]{20}(?![A-Za-z0-9])", 2, True),
        ("AKCp", r"[A-Za-z0-9]{69}(?![A-Za-z0-9])", 4, False),
        ("cmVmd", r"[A-Za-z0-9]{59}(?![A-Za-z0-9])", 4, False),
        ("ATATT3", r"[A-Za-z0-9_=-]{186}", 3, False),
        ("4b1d", r"[A-Za-z0-9]{38}(?![A-Za-z0-9])", 3, False),
        ("CLOJARS_ clojars_", r"[A-Za-z0-9]{60}", 2, False),
        ("v1.0-", r"[a-f0-9]{24}-[a-f0-9]{146}", 2, False),
        ("dnkey-", r"[A-Za-z0-9=_-]{26}-[A-Za-z0-9=_-]{52}", 2, True),
        ("dp.pt.", r"[A-Za-z0-9]{43}", 2, False),
        ("duffel_", r"(?:test|live)_[A-Za-z0-9_=-]{43}", 2, True),
        ("dt0c01.", r"[A-Za-z0-9]{24}\.[A-Za-z0-9]{64}", 3, False),
        ("EZAK EZTK", r"[A-Za-z0-9]{54}(?![A-Za-z0-9])", 2, True),
        ("EAAM EAAC", r"[A-Za-z0-9]{100,500}", 4, True),
        ("FLWSECK_TEST- FLWPUBK_TEST-", r"[A-Ha-h0-9]{12,32}(?:-X)?", 2, False),
        ("fo1_", r"[\w-]{43}", 4, True),
        ("fm1a_ fm1r_ fm2_", r"[A-Za-z0-9+/]{100,2000}={0,3}", 4, False),
        ("fio-u-", r"[A-Za-z0-9_=-]{64}", 2, True),
        ("glc_", r"[A-Za-z0-9+/]{32,400}={0,3}", 3, True),
        ("glsa_", r"[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}", 3, False),
        ("pat. sat.", r"[\w-]{22}\.[0-9a-f]{24}\.[A-Za-z0-9]{20}", 3, False),
        ("HRKU-AA", r"[\w-]{58}", 3, True),
        ("ico-", r"[A-Za-z0-9]{32}", 3, True),
        ("s-s4t2ud- s-s4t2af-", r"[a-f0-9]{64}", 3, False),
        ("lin_api_", r"[A-Za-z0-9]{40}", 2, False),
        ("ntn_", r"[0-9]{11}[A-Za-z0-9]{35}", 3, False),
        ("API-", r"[A-Z0-9]{26}(?![A-Za-z0-9])", 3, True),
        ("sha256~", r"[\w-]{43}", 3, False),
        ("pscale_tkn_ pscale_pw_ pscale_oauth_", r"[\w=.-]{32,64}", 3, True),
        ("PMAK-", r"[A-Fa-f0-9]{24}-[A-Fa-f0-9]{34}", 3, False),
        ("pnu_", r"[A-Za-z0-9]{36}", 2, True),
        ("pul-", r"[a-f0-9]{40}", 2, False),
        ("rdme_", r"[a-z0-9]{70}", 2, True),
        ("rubygems_", r"[a-f0-9]{48}", 2, False),
        ("tk-us-", r"[\w-]{48}", 2, True),
        ("xkeysib-", r"[a-f0-9]{64}-[A-Za-z0-9]{16}", 2, False),
        ("sntrys_eyJ", r"[A-Za-z0-9+/=_]{60,600}", 4, False),
        ("sntryu_", r"[a-f0-9]{64}", 3, False),
        ("sm_aat_ sm_pat_ sm_sat_", r"[A-Za-z0-9]{16}", 3, False),
        ("shippo_", r"(?:live|test)_[a-fA-F0-9]{40}", 2, False),
        ("sgp_", r"(?:(?:[a-fA-F0-9]{16}|local)_)?[a-fA-F0-9]{40}", 3, False),
        ("EAAA sq0atp-", r"[\w-]{22,60}", 3, True),
        ("SK", r"[0-9a-fA-F]{32}(?![A-Za-z0-9])", 3, True),
        ("hvb.", r"[\w-]{138,300}", 4, False),
        ("NRAK-", r"[A-Za-z0-9]{27}", 3, True),
        ("tfp_", r"[A-Za-z0-9_.=-]{59}", 2, True),
        ("AQVN", r"[\w-]{35,38}", 3, True),
        ("webhook.office.com/webhookb2/",
         r"[a-z0-9-]{36}@[a-z0-9-]{36}/IncomingWebhook/[a-z0-9]{32}/[a-z0-9-]{36}", 2, False),
        ("ey", r"[A-Za-z0-9]{17,2000}\.ey[A-Za-z0-9/\\_-]{17,4000}\.(?:[A-Za-z0-9/\\_-]{10,2000}={0,2})?",
         3, False),
    ),
    # What a link or a shell command hands over: Civitai's keys have no shape of their own.
    _Shape("token=", r"token=[A-Za-z0-9_.-]{16,255}", 3, True),
    _Shape("Bearer ", r"Bearer [A-Za-z0-9_.~+/-]{16,2000}={0,2}", 3, True),
    _Shape("wandb login ", r"wandb login (?:--\w{1,20} )?[0-9a-f]{40}", 2, False),
    # In these, what stands before the fixed characters is looked at, and stays.
    _Shape(":AA", r":(?<=[0-9]{5}:)AA[\w-]{33}(?![\w-])", 3, False),
    _Shape("Q~", r"Q~(?<=[\w~.]{3}[0-9]Q~)[\w~.-]{31,34}", 3, False),
    _Shape(".atlasv1.", r"\.atlasv1\.(?<=[A-Za-z0-9]{14}\.atlasv1\.)[\w=-]{60,70}", 3, False),
    _Shape("://", r"://[^\s/@:\"']{1,100}:[^\s/@\"']{1,200}@", 0, False),
    _Shape(
        "PRIVATE KEY",
        r"-----BEGIN[ A-Za-z0-9_-]{0,100}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:(?:[^-]|-(?!----)){0,20000}(?:-----END[ A-Za-z0-9_-]{0,100}-----)?)",
        0,
        False,
    ),
)  # fmt: skip
_VALUE: Final = re.compile(r"[:=][ \t]{0,3}[\"']?(?P<secret>[\w.+/-]{10,200}={0,2})")
_LABEL: Final = re.compile(
    r"(?:key|token|secret|passw(?:or)?d|passphrase|pwd|auth|credentials?|creds)[\"']?\s{0,3}$", re.IGNORECASE
)
_OPTION: Final = re.compile(
    r"--(?:[\w-]{0,30}[_-])?(?:key|token|secret|password|passwd|pwd)[ =][\"']?"
    r"(?P<secret>[\w.+/-]{8,200}={0,2})"
)
_PASSWORD: Final = re.compile(
    r"(?i:passw(?:or)?d|passphrase|pwd)[\"']?\s{0,3}[:=][ \t]{0,3}[\"']?(?P<secret>[^\s\"',;<>{}…]{5,200})"
)
"""Password that people make up: shorter than a token, and with a digit or a sign."""
_HEX: Final = re.compile(r"[0-9a-f]{24,}|[0-9A-F]{24,}")
_HEX_ENTROPY: Final = 2.5
"""Least entropy of hex, which has at most 4 bits a character."""
_PASSWORDS: Final = ("ass", "ASS", "wd", "WD")
_MOST: Final = 10_000
"""Limit on the words of a text that are weighed."""
_DIGIT: Final = re.compile(r"\d")
_SCHEME: Final = re.compile(r"[a-z][a-z+]{0,11}$", re.IGNORECASE)


def spans(text: str) -> list[tuple[int, int]]:
    """Find the places of all secrets in `text`; those that meet become one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(_found(text)):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def _sign(start: str) -> str:
    """Choose a character of `start` that few texts hold, or else a capital letter."""
    return next((char for char in "-/:._ " if char in start), "" if start.islower() else "A")


_IN_WORDS: Final = tuple(shape for shape in _SHAPES if " " in shape.start or shape.start == "://")
"""Shapes with spaces or commas in them."""
_BY_SIGN: Final = {
    sign: tuple(shape for shape in _SHAPES if shape not in _IN_WORDS and _sign(shape.start) == sign)
    for sign in sorted({_sign(shape.start) for shape in _SHAPES})
}
"""All other shapes by the sign without which a text holds none of them."""
_LONG: Final = re.compile(r"[^\s\"',;\[\]{}<>]{12,}")
"""Word as long as a secret of one word at least is; most words of captions and of JSON are shorter."""


def _met(text: str) -> Iterator[_Shape]:
    """Yield the shapes whose start is in `text`."""
    yield from (shape for shape in _IN_WORDS if shape.start in text)
    long = " ".join(_LONG.findall(text))
    for sign, shapes in _BY_SIGN.items() if long else ():
        if long != long.lower() if sign == "A" else sign in long:
            yield from (shape for shape in shapes if shape.start in long)


def _found(text: str) -> Iterator[tuple[int, int]]:
    left = _MOST
    for shape in _met(text):
        for match in _compiled(shape.pattern).finditer(text):
            token, left = match[0], left - 1
            if left < 0:
                # Nobody has as many, and a text made of them hides better whole than not to its end.
                yield 0, len(text)
                return
            if not _has_digit(token) and (shape.digit or _entropy(token) < shape.entropy):
                continue
            start = match.start()
            if shape.start == "://":
                scheme = _SCHEME.search(text[max(0, start - 12) : start])
                start -= len(scheme[0]) if scheme else 0
            yield start, match.end()
    if "--" in text:
        yield from (match.span("secret") for match in _OPTION.finditer(text) if _has_digit(match["secret"]))
    if any(label in text for label in _PASSWORDS):
        yield from (
            match.span("secret") for match in _PASSWORD.finditer(text) if _is_password(match["secret"])
        )
    for match in _VALUE.finditer(text):
        token = match["secret"]
        if (
            _has_digit(token)
            and _entropy(token) >= (_HEX_ENTROPY if _HEX.fullmatch(token) else 3.5)
            and _LABEL.search(text[max(0, match.start() - 16) : match.start()])
        ):
            yield match.span("secret")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _has_digit(text: str) -> bool:
    return _DIGIT.search(text) is not None


def _is_password(text: str) -> bool:
    """Tell a password from a word in a sentence, from asterisks and from the name of a variable."""
    return not text.isalpha() and text[:1] not in {"$", "*", "%"} and len(set(text)) > 2


def _entropy(text: str) -> float:
    """Compute the entropy of the characters of `text`, in bits a character."""
    shares = [count / len(text) for count in Counter(text).values()]
    return -sum(share * math.log2(share) for share in shares)
