"""Several workloads at once, each with its own arrivals, lengths and sessions."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from functools import partial

from headway.core import Request
from headway.core.protocols import Offer, Workload
from headway.workload.offered import Offered, changed, salt_of, salted


class Merged:
    """Offers of all sources in order of arrival, with new ids; prefixes and sessions never meet.

    The first source keeps its prefix and session ids. Holds the sources' own requests until they end.
    """

    def __init__(self, sources: Sequence[Workload]) -> None:
        self._sources = list(sources)
        self._live: dict[int, tuple[int, Request]] = {}
        self._next_id = 0

    def offers(self) -> Iterator[Offered]:
        """Offer in order of arrival, ties in order of the sources; starts all of them anew."""
        self._live = {}
        self._next_id = 0
        streams = [map(partial(_tag, k), source.offers()) for k, source in enumerate(self._sources)]
        for index, offer in heapq.merge(*streams, key=_arrival_ns):
            yield self._renamed(index, offer)

    def on_end(self, request: Request, outcome: str, now_ns: int) -> Sequence[Offered]:
        """Ask the source that the request came from."""
        known = self._live.pop(request.id, None)
        if known is None:
            return ()
        index, own = known
        return [
            self._renamed(index, offer)
            for offer in self._sources[index].on_end(own, outcome, now_ns)
        ]

    def _renamed(self, index: int, offer: Offer) -> Offered:
        own, salt = offer.request, salt_of(index)
        renamed = changed(
            own,
            id=self._next_id,
            session=None if own.session is None else own.session ^ salt,
            prefix=salted(own.prefix, salt),
            next_extent=None if own.next_extent is None else own.next_extent ^ salt,
        )
        self._live[renamed.id] = (index, own)
        self._next_id += 1
        return Offered(renamed, offer.output_tokens)


def _tag(index: int, offer: Offer) -> tuple[int, Offer]:
    return index, offer


def _arrival_ns(tagged: tuple[int, Offer]) -> int:
    return tagged[1].request.arrival_ns
