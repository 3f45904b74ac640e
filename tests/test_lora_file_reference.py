"""What the safetensors library refuses or reads otherwise is not read here either."""

import json
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save

from loraudit.errors import NotScannable
from loraudit.lora import load_lora, write_kohya
from loraudit.lora.file.header import Header, TensorInfo, read_header
from loraudit.lora.file.ordinary import ITEM_BITS
from loraudit.lora.file.reference import require_agreement
from loraudit.lora.matrices import DTYPES
from loraudit.lora.write import serialize
from tests.headers import TENSORS


def framed(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + bytes(4)


def test_what_both_read_passes(tmp_path: Path) -> None:
    arrays = {
        "a": np.ones((2, 3), np.float16),
        "é": np.ones((), np.float32),
        "z": np.ones((0, 3), np.int8),
        "b": np.ones(2, ml_dtypes.bfloat16),
    }
    path = tmp_path / "x"
    path.write_bytes(save(arrays, {"k": "v"}))
    require_agreement(read_header(path))
    path.write_bytes(serialize({}, {}))
    require_agreement(read_header(path))


NEW = sorted(ITEM_BITS.keys() - DTYPES.keys())
"""Dtypes of the format whose values are not read."""


def with_scale(name: str) -> bytes:
    """A LoRA of one module whose header names somebody, and beside it 32 numbers of that dtype."""
    data = serialize(
        TENSORS | {"scale": np.zeros(ITEM_BITS[name], np.float32)}, {"ss_output_name": "jane_doe"}
    )
    start = 8 + int.from_bytes(data[:8], "little")
    table = json.loads(data[8:start])
    table["scale"] |= {"dtype": name, "shape": [32]}
    text = json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + data[start:]


@pytest.mark.parametrize("name", NEW)
def test_a_new_dtype_costs_its_own_tensor_only(name: str, scan, tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    path.write_bytes(with_scale(name))
    code, out, _ = scan(path, "--depth", "weights", "-f", "json")
    report = json.loads(out)
    assert code in {1, 4}
    assert "LA-NAME-002" in {finding["id"] for finding in report["findings"]}
    assert report["target"]["modules"] == {"read": 1, "unread": 1, "total": 2}
    assert f"it is {name}, a dtype that is not read" in report["incomplete"][0]["why"]


@pytest.mark.parametrize("name", ["F8_E4M3", "F8_E5M2", "BF16", "BOOL", "U64"])
def test_dtypes_have_one_name(name: str, tmp_path: Path) -> None:
    size = {"BF16": 2, "U64": 1}.get(name, 4)
    shape = [4] if size == 4 else [2] if size == 2 else [1, 0]
    length = 0 if name == "U64" else 4
    text = f'{{"a":{{"dtype":"{name}","shape":{shape},"data_offsets":[0,{length}]}}}}'.encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(text)) + text + bytes(length))
    require_agreement(read_header(tmp_path / "x"))


def test_what_it_refuses_is_refused(tmp_path: Path) -> None:
    """Minus zero is a size to Python's parser and none to the library's."""
    path = tmp_path / "x"
    path.write_bytes(framed(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[-0,4]}}'))
    header = read_header(path)
    with pytest.raises(NotScannable, match="the safetensors library refuses x: "):
        require_agreement(header)
    with pytest.raises(NotScannable, match="the safetensors library refuses x: "):
        load_lora(path)


def test_a_file_that_changed_since_is_noticed(tmp_path: Path, sd1_factors) -> None:
    path = tmp_path / "x"
    write_kohya(sd1_factors, path)
    header = read_header(path)
    require_agreement(header)
    changed: list[Header] = [
        Header(path, header.tensors, {"other": "metadata"}, header.size_bytes),
        Header(path, dict(list(header.tensors.items())[1:]), header.metadata, header.size_bytes),
        Header(
            path, {**header.tensors, "a": TensorInfo("F32", (), 0, 4)}, header.metadata, header.size_bytes
        ),
    ]
    for other in changed:
        with pytest.raises(NotScannable, match="read the header of x differently"):
            require_agreement(other)
    assert set(load_file(path)) == set(header.tensors)
