"""A closed loop: a fixed number of users, each asking again as soon as it was answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from headway.core import Request
from headway.core.protocols import Offer, Workload
from headway.errors import OptionError
from headway.workload.offered import Offered, changed


class ClosedLoop:
    """Offers what `source` offers, but keeps `concurrency` users busy instead of following its times.

    A burst of `concurrency` requests starts at time 0; each end brings the next, at that moment, until
    the source is out or `requests` of its offers were made. A turn that a session of the source asks for
    next goes first and keeps its user, thinking time included; turns do not count towards `requests`.

    Throughput of a closed loop is not a rate that users chose: slow servers are asked less. Use an open
    loop for SLOs.
    """

    def __init__(self, source: Workload, concurrency: int, requests: int | None = None) -> None:
        if concurrency < 1:
            raise OptionError(
                f"concurrency is {concurrency}, the least is 1: choose how many requests are in flight"
            )
        self._source = source
        self._concurrency = concurrency
        self._requests = requests
        self._rest: Iterator[Offer] = iter(())

    def offers(self) -> Iterator[Offered]:
        """Offer the first burst; starts the workload anew."""
        rest = self._rest = islice(self._source.offers(), self._requests)
        for offer in islice(rest, self._concurrency):
            yield _moved(offer, 0)

    def on_end(self, request: Request, outcome: str, now_ns: int) -> Sequence[Offered]:
        """Offer the next turn of a session, else the next request, now."""
        turns = self._source.on_end(request, outcome, now_ns)
        if turns:
            return [Offered(turn.request, turn.output_tokens) for turn in turns]
        offer = next(self._rest, None)
        return () if offer is None else (_moved(offer, now_ns),)


def _moved(offer: Offer, arrival_ns: int) -> Offered:
    return Offered(changed(offer.request, arrival_ns=arrival_ns), offer.output_tokens)
