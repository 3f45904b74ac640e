"""Ids of public catalogues of risks that a rule belongs to, for reports that others sort and count.

A rule has the ids of what its finding shows. The ids say nothing about how grave a finding is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = ["SCHEMES", "Scheme", "Standard", "standards_of"]


@dataclass(frozen=True)
class Scheme:
    """A public catalogue of risks."""

    name: str
    version: str
    organization: str
    title: str
    url: str


@dataclass(frozen=True)
class Standard:
    """An entry of a catalogue."""

    scheme: str
    """Name of the catalogue in `SCHEMES`."""
    id: str
    """Id as the catalogue writes it."""
    title: str
    url: str


SCHEMES: Final[Mapping[str, Scheme]] = MappingProxyType(
    {
        scheme.name: scheme
        for scheme in (
            Scheme(
                "NIST AI 100-2",
                "e2025",
                "NIST",
                "Adversarial Machine Learning: A Taxonomy and Terminology of Attacks and Mitigations",
                "https://csrc.nist.gov/pubs/ai/100/2/e2025/final",
            ),
            Scheme(
                "MITRE ATLAS",
                "5.6.1",
                "MITRE",
                "Adversarial Threat Landscape for Artificial-Intelligence Systems",
                "https://atlas.mitre.org",
            ),
            Scheme(
                "OWASP ML",
                "2023",
                "OWASP",
                "OWASP Machine Learning Security Top 10",
                "https://owasp.org/www-project-machine-learning-security-top-10/",
            ),
            Scheme("CWE", "4.16", "MITRE", "Common Weakness Enumeration", "https://cwe.mitre.org"),
        )
    }
)
"""Catalogues by name, in the order in which reports name them."""


def _nist(number: str, title: str) -> Standard:
    scheme = SCHEMES["NIST AI 100-2"]
    return Standard(scheme.name, f"NISTAML.{number}", title, scheme.url)


def _atlas(number: str, title: str) -> Standard:
    scheme = SCHEMES["MITRE ATLAS"]
    return Standard(scheme.name, f"AML.{number}", title, f"{scheme.url}/techniques/AML.{number}")


def _owasp(number: str, title: str) -> Standard:
    scheme = SCHEMES["OWASP ML"]
    return Standard(scheme.name, f"{number}:{scheme.version}", title, scheme.url)


def _cwe(number: int, title: str) -> Standard:
    scheme = SCHEMES["CWE"]
    return Standard(scheme.name, f"CWE-{number}", title, f"{scheme.url}/data/definitions/{number}.html")


_RECONSTRUCTION: Final = _nist("032", "Data Reconstruction")
_MEMBERSHIP: Final = _nist("033", "Membership Inference")
_PROPERTY: Final = _nist("034", "Property Inference")
_TRAINING_DATA: Final = _nist("037", "Training Data Extraction")
_INVERT: Final = _atlas("T0024.001", "Invert AI Model")
_INFER: Final = _atlas("T0024.000", "Infer Training Data Membership")
_ACCESS: Final = _atlas("T0044", "Full AI Model Access")
_IDENTITY: Final = _atlas("T0087", "Gather Victim Identity Information")
_INVERSION: Final = _owasp("ML03", "Model Inversion Attack")
_MEMBER: Final = _owasp("ML04", "Membership Inference Attack")
_SUPPLY: Final = _owasp("ML06", "AI Supply Chain Attacks")
_SENSITIVE: Final = _cwe(200, "Exposure of Sensitive Information to an Unauthorized Actor")
_REMOVAL: Final = _cwe(212, "Improper Removal of Sensitive Information Before Storage or Transfer")
_PERSONAL: Final = _cwe(359, "Exposure of Private Personal Information to an Unauthorized Actor")
_CREDENTIALS: Final = _cwe(522, "Insufficiently Protected Credentials")
_PICKLE: Final = _cwe(502, "Deserialization of Untrusted Data")
_METADATA: Final = _cwe(1230, "Exposure of Sensitive Information Through Metadata")

_WORDS: Final = (_IDENTITY, _PERSONAL, _METADATA, _REMOVAL)
_PICTURES: Final = (_TRAINING_DATA, _PERSONAL, _REMOVAL)
_PERSON: Final = (_RECONSTRUCTION, _TRAINING_DATA, _INVERT, _ACCESS, _INVERSION, _PERSONAL)
_STANDARDS: Final[Mapping[str, tuple[Standard, ...]]] = MappingProxyType(
    {
        "LA-BESIDE-001": (_TRAINING_DATA, _PERSONAL),
        "LA-CAPTION-001": (_TRAINING_DATA, _METADATA, _REMOVAL),
        "LA-CAPTION-002": (_METADATA, _REMOVAL),
        "LA-CONTACT-001": _WORDS,
        "LA-COPY-001": (_TRAINING_DATA, _RECONSTRUCTION, _INVERT, _ACCESS, _INVERSION, _PERSONAL),
        "LA-DATASET-001": (_PROPERTY, _METADATA),
        "LA-HIDDEN-001": (_METADATA, _REMOVAL),
        "LA-HIDDEN-002": (_METADATA,),
        "LA-IDENTITY-001": _PERSON,
        "LA-IDENTITY-002": _PERSON,
        "LA-IDENTITY-003": (_RECONSTRUCTION, _INVERT, _ACCESS, _INVERSION),
        "LA-IDENTITY-004": (_MEMBERSHIP, _INFER, _ACCESS, _MEMBER, _PERSONAL),
        "LA-IMAGE-001": _PICTURES,
        "LA-IMAGE-002": _PICTURES,
        "LA-IMAGE-003": (_PERSONAL, _METADATA, _REMOVAL),
        "LA-LINK-001": (_PROPERTY, _METADATA, _REMOVAL),
        "LA-LINK-002": (_PROPERTY, _METADATA, _REMOVAL),
        "LA-NAME-001": _WORDS,
        "LA-NAME-002": _WORDS,
        "LA-PATH-001": (_METADATA, _REMOVAL),
        "LA-PICKLE-001": (_SUPPLY, _PICKLE),
        "LA-SECRET-001": (_SENSITIVE, _METADATA, _REMOVAL, _CREDENTIALS),
    }
)


def standards_of(rule: str) -> tuple[Standard, ...]:
    """Return the entries that the rule with the id `rule` belongs to, by catalogue; none if it is unknown."""
    order = list(SCHEMES)
    return tuple(sorted(_STANDARDS.get(rule, ()), key=lambda entry: order.index(entry.scheme)))
