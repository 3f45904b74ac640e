"""Forms of an update by the tensors of one module: plain LoRA, Tucker, LoHa, LoKr, or a dense difference.

Each form is brought to `up @ down` exactly, without a decomposition. A Tucker core `t [m, n, k, k]` is
multiplied into `down`. LoHa, `(U1 D1) * (U2 D2)` elementwise, is the product of the row-wise and the
column-wise Khatri-Rao products of its factors, of rank `r1 r2`. LoKr, `(U1 D1) kron (U2 D2)`, is
`(U1 kron U2) (D1 kron D2)`. A matrix that is given whole, or whose factors would be larger than the
matrix, is its own product with the identity.

Sources: LyCORIS `functional/` (`general.py`, `loha.py`, `lokr.py`); Kronecker and Khatri-Rao products: Kolda
and Bader 2009, https://doi.org/10.1137/07070111X, section 2.6.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["FORMS", "Form", "Role", "Size", "factor", "form_of", "measure"]

Role = Literal[
    "down", "up", "mid", "diff",
    "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
    "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
]  # fmt: skip
"""Part of a tensor in the update of its module; the names are LyCORIS's but for plain LoRA."""
Form = Literal["plain", "tucker", "dense", "loha", "loha tucker", "lokr"]

_Matrix: TypeAlias = NDArray[Any]
_Product: TypeAlias = tuple[_Matrix, _Matrix]

_LOHA: Final[frozenset[Role]] = frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"})
_LOHA_CORES: Final[tuple[tuple[Role, Role, Role], ...]] = (
    ("hada_w1_a", "hada_w1_b", "hada_t1"),
    ("hada_w2_a", "hada_w2_b", "hada_t2"),
)
_RIGHTS: Final[frozenset[Role]] = frozenset({"down", "hada_w1_b", "hada_w2_b", "lokr_w1_b", "lokr_w2_b"})
_CORES: Final[frozenset[Role]] = frozenset({"mid", "hada_t1", "hada_t2", "lokr_t2"})
"""Right sides of products, whose rows are its inner dimension; cores, whose first two axes are."""
_LEFT: Final[tuple[frozenset[Role], ...]] = (frozenset({"lokr_w1"}), frozenset({"lokr_w1_a", "lokr_w1_b"}))
_RIGHT: Final[tuple[frozenset[Role], ...]] = (
    frozenset({"lokr_w2"}),
    frozenset({"lokr_w2_a", "lokr_w2_b"}),
    frozenset({"lokr_w2_a", "lokr_w2_b", "lokr_t2"}),
)
_LOHA_RANKS: Final[tuple[tuple[Role, Role], ...]] = (("hada_t1", "hada_w1_b"), ("hada_t2", "hada_w2_b"))
FORMS: Final[Mapping[frozenset[Role], Form]] = {
    frozenset[Role]({"down", "up"}): "plain",
    frozenset[Role]({"down", "mid", "up"}): "tucker",
    frozenset[Role]({"diff"}): "dense",
    _LOHA: "loha",
    _LOHA | {"hada_t1", "hada_t2"}: "loha tucker",
    **dict.fromkeys((left | right for left in _LEFT for right in _RIGHT), "lokr"),
}
"""Form of an update by the roles of its tensors."""


@dataclass(frozen=True)
class Size:
    """Size of an update, by the shapes of its tensors."""

    outputs: int
    inputs: tuple[int, ...]
    """Inputs `(in,)`, or `(in, k, k)` where the tensors show the kernel."""
    rank: int | None
    """Divisor of alpha; None for a dense difference and a LoKr of two whole matrices, which have scale 1."""
    widest: int = 0
    """Largest inner dimension of a product in the file; 0 if there is no product."""
    read_rank: int = 0
    """Rank after reading, the columns of `up`: a small file can ask for large factors."""

    @property
    def shape(self) -> tuple[int, int]:
        """Shape `(out, in)` of the update, a kernel flattened into `in`."""
        return self.outputs, math.prod(self.inputs)

    @property
    def numbers(self) -> int:
        """Count the numbers in `up` and `down` after reading."""
        return self.read_rank * sum(self.shape)


def form_of(roles: frozenset[Role]) -> Form | None:
    """Return the form that has exactly these tensors; None if none has."""
    return FORMS.get(roles)


def measure(shapes: Mapping[Role, tuple[int, ...]]) -> Size | None:
    """Measure the update that tensors of these shapes make up; None if they do not multiply.

    The roles must be those of a form.
    """
    if any(0 in shape or len(shape) not in {2, 4} for shape in shapes.values()):
        return None
    flat = {role: _squeeze(shape) for role, shape in shapes.items()}
    size = _measure(flat, shapes)
    if size is None:
        return None
    inner = [shapes[role][0] for role in _RIGHTS & shapes.keys()]
    inner += [max(shapes[role][:2]) for role in _CORES & shapes.keys()]
    return replace(size, widest=max(inner, default=0), read_rank=_read_rank(flat, min(size.shape)))


def _measure(flat: Mapping[Role, tuple[int, ...]], shapes: Mapping[Role, tuple[int, ...]]) -> Size | None:
    first: Size | None
    second: Size | None
    match form_of(frozenset(shapes)):
        case "plain":
            return _pair(flat["up"], flat["down"])
        case "tucker":
            return _core(flat["up"][::-1], flat["down"], shapes["mid"])
        case "dense":
            return Size(flat["diff"][0], flat["diff"][1:], None)
        case "loha":
            first = _pair(flat["hada_w1_a"], flat["hada_w1_b"])
            second = _pair(flat["hada_w2_a"], flat["hada_w2_b"])
        case "loha tucker":
            first = _core(flat["hada_w1_a"], flat["hada_w1_b"], shapes["hada_t1"])
            second = _core(flat["hada_w2_a"], flat["hada_w2_b"], shapes["hada_t2"])
        case _:
            return _kron(flat, shapes.get("lokr_t2"))
    if first is None or second is None or (first.outputs, first.inputs) != (second.outputs, second.inputs):
        return None
    return first


def factor(values: Mapping[Role, NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return `up [out, r]` and `down [r, in]` of the update that these tensors make up, without its scale.

    The shapes must have passed `measure`. Values too large for float32 come out infinite.
    """
    if form_of(frozenset(values)) == "plain":
        return _rows(values["up"]), _rows(values["down"])
    up, down = _factor({role: value.astype(np.float64) for role, value in values.items()})
    with np.errstate(over="ignore"):
        return up.astype(np.float32), down.astype(np.float32)


def _factor(values: Mapping[Role, _Matrix]) -> _Product:
    match form_of(frozenset(values)):
        case "tucker":
            return _with_core(_rows(values["up"]), _rows(values["down"]), values["mid"])
        case "dense":
            return _whole(_rows(values["diff"]))
        case "loha":
            first = _rows(values["hada_w1_a"]), _rows(values["hada_w1_b"])
            second = _rows(values["hada_w2_a"]), _rows(values["hada_w2_b"])
            return _khatri_rao(first, second)
        case "loha tucker":
            first, second = (
                _with_core(_rows(values[a]).T, _rows(values[b]), values[t]) for a, b, t in _LOHA_CORES
            )
            return _khatri_rao(first, second)
    if "lokr_w1" in values:
        left = _whole(_rows(values["lokr_w1"]))
    else:
        left = _thin((_rows(values["lokr_w1_a"]), _rows(values["lokr_w1_b"])))
    if "lokr_w2" in values:
        right = _whole(_rows(values["lokr_w2"]))
    elif "lokr_t2" in values:
        up, down = _rows(values["lokr_w2_a"]).T, _rows(values["lokr_w2_b"])
        right = _thin(_with_core(up, down, values["lokr_t2"]))
    else:
        right = _thin((_rows(values["lokr_w2_a"]), _rows(values["lokr_w2_b"])))
    return np.kron(left[0], right[0]), np.kron(left[1], right[1])


def _khatri_rao(first: _Product, second: _Product) -> _Product:
    (up, down), (other_up, other_down) = first, second
    rank = up.shape[1] * other_up.shape[1]
    if rank >= min(up.shape[0], down.shape[1]):
        return _whole((up @ down) * (other_up @ other_down))
    rows = (up[:, :, None] * other_up[:, None, :]).reshape(up.shape[0], rank)
    return rows, (down[:, None, :] * other_down[None, :, :]).reshape(rank, down.shape[1])


def _with_core(up: _Matrix, down: _Matrix, core: _Matrix) -> _Product:
    """Multiply a core `[m, n, k, k]` into `down [n, in]`, which becomes `[m, in k k]`; `up` is `[out, m]`."""
    outputs, inputs = up.shape[0], down.shape[1] * core[0, 0].size
    if up.shape[1] < min(outputs, inputs):
        return up, np.einsum("mnkl,nj->mjkl", core, down).reshape(-1, inputs)
    # A small file could ask for a `down` of any size; from the other side the product is the module's size.
    left = np.tensordot(up, core, 1)
    return _whole(np.einsum("onkl,nj->ojkl", left, down).reshape(outputs, inputs))


def _whole(matrix: _Matrix) -> _Product:
    outputs, inputs = matrix.shape
    return (np.eye(outputs), matrix) if outputs <= inputs else (matrix, np.eye(inputs))


def _thin(product: _Product) -> _Product:
    up, down = product
    return product if up.shape[1] < min(up.shape[0], down.shape[1]) else _whole(up @ down)


def _rows(values: _Matrix) -> _Matrix:
    return values.reshape(values.shape[0], -1)


def _read_rank(flat: Mapping[Role, tuple[int, ...]], side: int) -> int:
    """Compute the rank of what `factor` makes of matrices of these shapes; `side` is the update's smaller."""
    if "up" in flat:
        # A pair stays as it is.
        return min(flat["mid"][0], side) if "mid" in flat else flat["down"][0]
    if "diff" in flat:
        return side
    if "hada_w1_a" in flat:
        ranks = [flat.get(core, flat[right])[0] for core, right in _LOHA_RANKS]
        return min(math.prod(ranks), side)
    left = (
        _pair_rank(flat["lokr_w1_a"][0], flat["lokr_w1_b"]) if "lokr_w1_a" in flat else _side(flat["lokr_w1"])
    )
    if "lokr_w2" in flat:
        return left * _side(flat["lokr_w2"])
    if "lokr_t2" not in flat:
        return left * _pair_rank(flat["lokr_w2_a"][0], flat["lokr_w2_b"])
    core, inputs = flat["lokr_t2"], flat["lokr_w2_b"][1]
    return left * min(core[0], flat["lokr_w2_a"][1], inputs * math.prod(core[2:]))


def _pair_rank(outputs: int, down: tuple[int, ...]) -> int:
    return min(outputs, down[0], math.prod(down[1:]))


def _side(shape: tuple[int, ...]) -> int:
    return min(shape[0], math.prod(shape[1:]))


def _squeeze(shape: tuple[int, ...]) -> tuple[int, ...]:
    # A Linear layer's or a 1x1 convolution's matrices come with and without the kernel's two axes.
    return shape[:2] if shape[2:] == (1, 1) else shape


def _pair(up: tuple[int, ...], down: tuple[int, ...]) -> Size | None:
    return Size(up[0], down[1:], down[0]) if len(up) == 2 and up[1] == down[0] else None


def _core(up: tuple[int, ...], down: tuple[int, ...], core: tuple[int, ...]) -> Size | None:
    """Measure `up [m, out]`, `down [n, in]` and a core `[m, n, k, k]`; None if they do not multiply."""
    if len(up) != 2 or len(down) != 2 or len(core) != 4 or core[:2] != (up[0], down[0]):
        return None
    kernel = () if core[2:] == (1, 1) else core[2:]
    return Size(up[1], (down[1], *kernel), down[0])


def _kron(flat: Mapping[Role, tuple[int, ...]], core: tuple[int, ...] | None) -> Size | None:
    left: Size | None
    if "lokr_w1" in flat:
        left = Size(flat["lokr_w1"][0], flat["lokr_w1"][1:], None)
    else:
        left = _pair(flat["lokr_w1_a"], flat["lokr_w1_b"])
    right: Size | None
    if "lokr_w2" in flat:
        right = Size(flat["lokr_w2"][0], flat["lokr_w2"][1:], None)
    elif core is not None:
        right = _core(flat["lokr_w2_a"], flat["lokr_w2_b"], core)
    else:
        right = _pair(flat["lokr_w2_a"], flat["lokr_w2_b"])
    if left is None or right is None or len(left.inputs) != 1:
        return None
    inputs = (left.inputs[0] * right.inputs[0], *right.inputs[1:])
    return Size(left.outputs * right.outputs, inputs, right.rank or left.rank)
