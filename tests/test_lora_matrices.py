"""The matrices are what the file's arithmetic says: `scale * B @ A`, in any dtype, finite or refused."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import save_file

from loraudit.errors import NotScannable
from loraudit.lora import Factors, load_lora
from loraudit.lora.file.header import read_header
from loraudit.lora.matrices import read_tensor
from loraudit.lora.write import serialize

NAME = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
SITE = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def kohya(path: Path, alpha: float | None, dtype=np.float32, rank: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    down = rng.standard_normal((rank, 1280)).astype(dtype)
    up = rng.standard_normal((1280, rank)).astype(dtype)
    tensors = {f"{NAME}.lora_down.weight": down, f"{NAME}.lora_up.weight": up}
    save_file(tensors | ({} if alpha is None else {f"{NAME}.alpha": np.array(alpha, dtype)}), path)
    return down, up


@pytest.mark.parametrize(
    ("alpha", "scale"), [(4, 1.0), (1, 0.25), (16, 4.0), (-2, -0.5), (0, 1.0), (None, 1.0)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_the_product_is_scale_times_b_a(tmp_path: Path, alpha: float | None, scale: float, dtype) -> None:
    down, up = kohya(tmp_path / "x.safetensors", alpha, dtype)
    factors = load_lora(tmp_path / "x.safetensors").factors[SITE]
    assert factors.scale == scale
    assert (factors.rank, factors.shape) == (4, (1280, 1280))
    expected = scale * (up.astype(np.float64) @ down.astype(np.float64))
    np.testing.assert_allclose(factors.delta(), expected, rtol=1e-4, atol=1e-5)


def test_another_alpha_is_another_update(tmp_path: Path) -> None:
    kohya(tmp_path / "x.safetensors", 4)
    kohya(tmp_path / "y.safetensors", 5)
    left, right = (load_lora(tmp_path / name).factors[SITE] for name in ("x.safetensors", "y.safetensors"))
    assert np.abs(left.delta() - right.delta()).max() > 0.1
    np.testing.assert_array_equal(left.down, right.down)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("BF16", ml_dtypes.bfloat16), ("F8_E4M3", ml_dtypes.float8_e4m3fn), ("F8_E5M2", ml_dtypes.float8_e5m2)],
)
def test_dtypes_that_numpy_lacks(tmp_path: Path, name: str, dtype) -> None:
    values = np.array([[1.0, -0.5, 0.0, 448.0, 0.001953125]], np.float32)
    stored = values.astype(dtype)
    header = b'{"a":{"dtype":"%s","shape":[1,5],"data_offsets":[0,%d]}}' % (name.encode(), stored.nbytes)
    data = len(header).to_bytes(8, "little") + header + stored.tobytes()
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    read = read_tensor(path, "a", read_header(path).tensors["a"])
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, stored.astype(np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", ["lora_down.weight", "lora_up.weight", "alpha"])
def test_values_that_are_not_finite_are_refused_by_name(tmp_path: Path, bad: float, which: str) -> None:
    tensors = {
        f"{NAME}.lora_down.weight": np.ones((4, 1280), np.float32),
        f"{NAME}.lora_up.weight": np.ones((1280, 4), np.float32),
        f"{NAME}.alpha": np.ones(1, np.float32),
    }
    tensors[f"{NAME}.{which}"].flat[-1] = bad
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(NotScannable, match=which) as caught:
        load_lora(tmp_path / "x.safetensors")
    assert "NaN or infinite" in str(caught.value)


def test_a_scale_that_overflows_is_refused(tmp_path: Path) -> None:
    kohya(tmp_path / "x.safetensors", 3e38, rank=1)
    with pytest.raises(NotScannable, match="infinite"):
        load_lora(tmp_path / "x.safetensors")


def test_a_file_that_shrank_after_its_header_was_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(serialize({"a": np.ones((64, 64), np.float32)}, {}))
    info = read_header(path).tensors["a"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(NotScannable, match="truncated"):
        read_tensor(path, "a", info)


@given(st.data())
def test_the_norm_is_that_of_the_product(data) -> None:
    rank, out, inputs = (data.draw(st.integers(1, size)) for size in (4, 9, 9))
    values = st.floats(-100, 100, width=32)
    up = data.draw(arrays(np.float32, (out, rank), elements=values))
    down = data.draw(arrays(np.float32, (rank, inputs), elements=values))
    expected = np.linalg.norm(up.astype(np.float64) @ down.astype(np.float64))
    largest = np.linalg.norm(up) * np.linalg.norm(down)
    assert Factors(up, down, 1.0).frobenius() == pytest.approx(
        expected, rel=1e-6, abs=1e-6 * float(largest) + 1e-12
    )
