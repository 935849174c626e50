"""What a request is promised and on whose account it runs: headers, body, and the server's defaults, in that order."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from hashlib import blake2b
from typing import NamedTuple

from starlette.datastructures import Headers

from headway.core.request import NS_PER_MS, Slo
from headway.server.bodies import GenerateBody, SloTargets
from headway.server.errors import invalid

TENANT_HEADER = "x-gateway-inference-fairness-id"
TTFT_HEADER, TPOT_HEADER = "x-slo-ttft-ms", "x-slo-tpot-ms"
SESSION_HEADER = "x-session-id"
CLASS_HEADER = "x-gateway-inference-objective"
ASKED = "asked"  # the SLO class of requests that bring targets of their own, and no name for them
MOST_MS = 86_400_000.0

_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,256}")


class Terms(NamedTuple):
    """What a call is promised, on whose account it runs, and which conversation it is a turn of."""

    slo: Slo
    tenant: str
    session: int | None


def terms_of(body: GenerateBody, headers: Headers, default: Slo, key: bytes) -> Terms:
    """The terms of a call; `key` is what sessions are hashed with.

    Raises:
        ApiError: 400, as the functions below say.
    """
    tenant = tenant_of(body, headers)
    return Terms(slo_of(body, headers, default), tenant, session_of(body, headers, tenant, key))


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


def session_of(body: GenerateBody, headers: Headers, tenant: str, key: bytes) -> int | None:
    """Which conversation a call is a turn of: the header's name for it, else `prompt_cache_key`, else none.

    63 bits of the name together with tenant and API key, so that equal names of two clients have nothing in common;
    nothing is kept for a name.

    Raises:
        ApiError: 400 for a name with control characters or of more than 256 characters.
    """
    name = headers.get(SESSION_HEADER) or body.prompt_cache_key or ""
    if not name:
        return None
    if not _NAME.fullmatch(name):
        raise invalid(
            "prompt_cache_key",
            "A conversation's name has 1 to 256 characters and no control characters.",
        )
    found = blake2b(key=key, digest_size=8)
    for part in (headers.get("authorization") or "", tenant, name):
        found.update(len(part).to_bytes(8, "little") + part.encode("utf-8", "surrogatepass"))
    return int.from_bytes(found.digest(), "little") >> 1


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
