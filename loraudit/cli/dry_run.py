"""The answer of `scan --dry-run`: the cost of a scan, before anything is drawn."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from loraudit.cli.console import emit, say, say_error
from loraudit.cli.failures import write_traceback
from loraudit.errors import InternalError
from loraudit.text import duration

if TYPE_CHECKING:
    from loraudit.audit.forecast import Cost, Forecast
    from loraudit.audit.request import Request

__all__ = ["cost_text", "tell_cost"]

_QUIET: Final = "if nothing comes back"


def tell_cost(targets: Sequence[str], request: "Request") -> int:
    """Write the cost of scanning every target to stdout and return the exit code: 0 unless one is unfit."""
    from loraudit.audit.forecast import forecasts
    from loraudit.findings.exits import combine_exit_codes

    codes, told = [], []
    for found in forecasts(targets, request, say):
        if isinstance(found, tuple):
            name, error = found
            if isinstance(error, InternalError) and error.__cause__ is not None:
                write_traceback(error.__cause__)
            say_error(str(error) if name in str(error) else f"{name}: {error}", error.hint)
            codes.append(error.exit_code)
            continue
        codes.append(0)
        told.append(found)
        emit(cost_text(found), None)
    if len(told) > 1:
        emit(f"all {len(told)} targets: {_time(told)}\n", None)
    return combine_exit_codes(codes)


def cost_text(cost: "Forecast") -> str:
    """Lay out the forecast for one target."""
    sampling = cost.plan.sampling
    rows = (
        ("base", f"{cost.base}, {sampling.steps} steps, guidance {sampling.guidance:g}"),
        ("attacks", f"{', '.join(cost.attacks) or 'none'} ({cost.aims} aims)"),
        ("pictures", _both(*(f"{one.pictures:,}" for one in (cost.most, cost.clean)))),
        ("evaluations", _both(*(f"{one.evaluations:,}" for one in (cost.most, cost.clean)))),
        ("memory", _memory(cost)),
        ("time", _time([cost])),
    )
    return f"{cost.name}\n" + "".join(f"  {label:<13}{value}\n" for label, value in rows)


def _both(most: str, clean: str) -> str:
    return f"at most {most}; {clean} {_QUIET}"


def _memory(cost: "Forecast") -> str:
    if cost.memory is None:
        return f"unknown: {cost.here.unknown}"
    free = "" if cost.here.free is None else f", {_gib(cost.here.free)} free"
    return f"about {_gib(cost.memory)} on {cost.here.device}{free}"


def _time(costs: Sequence["Forecast"]) -> str:
    """Say how long scans take one after the other."""
    here = costs[0].here

    def seconds(one: "Forecast", which: "Cost") -> float:
        return one.seconds(which) or 0.0

    unknown = next((one.here.unknown for one in costs if one.here.seconds is None), None)
    if unknown is not None:
        return f"unknown: {unknown}"
    most, clean = (sum(seconds(one, getattr(one, side)) for one in costs) for side in ("most", "clean"))
    each = f", {here.seconds:.2g} s an evaluation" if len(costs) == 1 else ""
    return f"{_both(duration(most), duration(clean))} ({here.device}{each})"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
