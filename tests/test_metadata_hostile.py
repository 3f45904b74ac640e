"""The metadata audit on what nobody means well by: any value is read, in time that grows with its length."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.headers import KOHYA, audit, write
from tests.test_lora_file_header import frame

HOSTILE = st.text(max_size=80) | st.sampled_from(
    [
        "{" * 900,
        "[1" * 500,
        '{"a":' * 500,
        "data:image/",
        "/9j/" * 200,
        "9" * 5000,
        "NaN",
        "@" * 500,
    ]
)
KEYS = st.sampled_from(
    sorted(
        {
            *KOHYA,
            "ot_config",
            "ss_datasets",
            "trained_words",
            "modelspec.thumbnail",
            "sshs_cp0",
            "workflow",
            "people",
            "<a>",
        }
    )
)
NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(KEYS | st.text(max_size=10), HOSTILE | NESTED.map(json.dumps), max_size=6))
def test_any_metadata_is_read(tmp_path: Path, metadata) -> None:
    path = tmp_path / "x.safetensors"
    table = {"__metadata__": metadata, "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}
    path.write_bytes(frame(table, b"x"))
    for finding in audit(path).values():
        assert not set("".join(finding.quotes)) & set("\n\r\x1b\x9b\u202e\ud800")


@pytest.mark.parametrize(
    "text",
    [
        "a" * 3_000_000,
        "a@" * 1_500_000,
        "/home/" * 500_000,
        "https://a:" * 300_000,
        "a:\\" * 1_000_000,
        "x.com/" * 600_000,
        "sk-" * 1_000_000,
        "+1 " * 1_000_000,
        ":1(" * 1_000_000,
        "~" * 3_000_000,
    ],
)
def test_long_text_takes_no_longer_than_its_length(tmp_path: Path, text) -> None:
    start = time.perf_counter()
    audit(write(tmp_path / "x.safetensors", {"x": text}))
    assert (
        time.perf_counter() - start < 5
    )  # at most 0.5 s where nothing else runs; a square of it would be hours


def test_what_is_too_long_is_said(tmp_path: Path) -> None:
    assert "LA-HIDDEN-002" in audit(write(tmp_path / "x.safetensors", {"x": "word " * 2_000_000}))
