"""What a request is promised and on whose account it runs: headers, body, and the server's defaults, in that order."""

from __future__ import annotations

import math
import re
from dataclasses import replace

from starlette.datastructures import Headers

from headway.core.request import NS_PER_MS, Slo
from headway.server.bodies import GenerateBody, SloTargets
from headway.server.errors import invalid

TENANT_HEADER = "x-gateway-inference-fairness-id"
TTFT_HEADER, TPOT_HEADER = "x-slo-ttft-ms", "x-slo-tpot-ms"
CLASS_HEADER = "x-gateway-inference-objective"
ASKED = "asked"  # the SLO class of requests that bring targets of their own, and no name for them
MOST_MS = 86_400_000.0

_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,256}")


def slo_of(body: GenerateBody, headers: Headers, default: Slo) -> Slo:
    """The SLO of a call: each target from the body, else the header, else the server's default.

    Raises:
        ApiError: 400 for a target that is no positive number of milliseconds.
    """
    wanted = body.slo or SloTargets()
    targets = {
        "ttft_ns": _first(wanted.ttft_ms, headers.get(TTFT_HEADER), "ttft_ms"),
        "tpot_ns": _first(wanted.tpot_ms, headers.get(TPOT_HEADER), "tpot_ms"),
        "e2e_ns": _first(wanted.e2e_ms, None, "e2e_ms"),
        "deadline_ns": _first(wanted.deadline_ms, None, "deadline_ms"),
    }
    given = {name: value for name, value in targets.items() if value is not None}
    if not given:
        return default
    name = headers.get(CLASS_HEADER) or ASKED
    return replace(default, name=name if _NAME.fullmatch(name) else ASKED, **given)


def tenant_of(body: GenerateBody, headers: Headers) -> str:
    """Who is served: the gateway's header, else `user`, else nobody in particular.

    Raises:
        ApiError: 400 for a name with control characters or of more than 256 characters.
    """
    name = headers.get(TENANT_HEADER) or body.user or ""
    if name and not _NAME.fullmatch(name):
        raise invalid("user", "A tenant's name has 1 to 256 characters and no control characters.")
    return name


def _first(body: float | None, header: str | None, name: str) -> int | None:
    if body is None and header is None:
        return None
    param = f"slo.{name}" if body is not None else f"x-slo-{name.replace('_', '-')}"
    try:
        ms = float(body if body is not None else header or "")
    except ValueError:
        raise invalid(param, f"{param} is not a number of milliseconds.") from None
    if not (math.isfinite(ms) and 0 < ms <= MOST_MS):
        raise invalid(param, f"{param} must be above 0 and at most {MOST_MS:.0f} ms.")
    return max(1, round(ms * NS_PER_MS))
