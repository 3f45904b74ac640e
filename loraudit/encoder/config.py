"""Checks that the configs of all encoders share: their sites, their sizes, and their fields in JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from loraudit.lora.matrices import Site

__all__ = ["check_sites", "config_fields", "config_sites"]


def check_sites(sites: Sequence[tuple[Site, int, int]], sizes: Sequence[int]) -> None:
    """Raise `ValueError` unless sites `(site, out, in)` are there, each once, and all sizes at least 1."""
    names = [site for site, _, _ in sites]
    if not names or len(set(names)) != len(names):
        raise ValueError("an encoder needs sites, each once")
    if min(*sizes, *(size for _, *shape in sites for size in shape)) < 1:
        raise ValueError("every size of an encoder is at least 1")


def config_sites(values: object) -> tuple[tuple[Site, int, int], ...]:
    """Read the sites `(site, out, in)` of a config in JSON. Raises `ValueError` on any other `values`."""
    if not isinstance(values, list):
        raise ValueError("sites is not a list")
    for site in values:
        if not isinstance(site, list) or len(site) != 3 or [type(part) for part in site] != [str, int, int]:
            raise ValueError("a site is not [name, out, in]")
    return tuple((site, out, in_) for site, out, in_ in values)


def config_fields(values: object, types: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values`, a dict with exactly the keys of `types`; a str, int or bool is of just that type.

    Raises `ValueError` if `values` is anything else.
    """
    if not isinstance(values, dict) or set(values) != set(types):
        raise ValueError(f"not exactly the fields {', '.join(types)}")
    for name, kind in types.items():
        if kind in (str, int, bool) and type(values[name]) is not kind:
            raise ValueError(f"{name} is not of type {kind.__name__}")
    return values
