"""What a workload offers: a request, and the true length that only a simulated world may know."""

from __future__ import annotations

from typing import NamedTuple

from headway.core import PrefixExtent, Request, Slo
from headway.errors import OptionError

DEFAULT_MAX_TOKENS = 4096


class Offered(NamedTuple):
    """One offer; satisfies `core.protocols.Offer`. `output_tokens` never exceeds `request.max_tokens`."""

    request: Request
    output_tokens: int


def cap_for(output_tokens: int, max_tokens: int) -> int:
    """Return the client's cap: `max_tokens`, doubled until the output fits.

    A cap equal to the true output would tell policies what they must not know, so all requests share
    one; those too long for it reveal only which power of two they fit.
    """
    while max_tokens < output_tokens:
        max_tokens *= 2
    return max_tokens


def check_cap(max_tokens: int) -> None:
    """Raise OptionError unless a cap is at least one token."""
    if max_tokens < 1:
        raise OptionError(f"max_tokens is {max_tokens}, the least is 1: give a cap on the output")


def changed(
    request: Request,
    *,
    id: int | None = None,  # noqa: A002 - the field's name
    arrival_ns: int | None = None,
    slo: Slo | None = None,
    tenant: str | None = None,
    session: int | None = None,
    prefix: tuple[PrefixExtent, ...] | None = None,
    next_extent: int | None = None,
) -> Request:
    """Copy a request with some fields replaced; half the cost of `dataclasses.replace`."""
    return Request(
        request.id if id is None else id,
        request.arrival_ns if arrival_ns is None else arrival_ns,
        request.prompt_tokens,
        request.max_tokens,
        request.slo if slo is None else slo,
        request.tenant if tenant is None else tenant,
        request.session if session is None else session,
        request.workflow,
        request.quality_floor,
        request.stages,
        request.prefix if prefix is None else prefix,
        request.next_extent if next_extent is None else next_extent,
        request.prompt_ids,
        request.supersedes,
        request.sampling,
    )


_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 63) - 1


def salt_of(part: int) -> int:
    """Return a number to XOR ids with, so that those of different parts (laps, sources) never meet.

    Part 0 keeps its ids. Exact for the small ids of traces and generators; for 63-bit content hashes a
    meeting is as unlikely as a collision of the hash itself.
    """
    return (part * _GOLDEN) & _MASK


def salted(prefix: tuple[PrefixExtent, ...], salt: int) -> tuple[PrefixExtent, ...]:
    """Rename every extent of a prefix by a salt."""
    return tuple([(name ^ salt, tokens) for name, tokens in prefix])
