"""A workload that is a list: for a handful of requests made by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence as Seq

from headway.core.protocols import Offer
from headway.core.request import Request


class Listed:
    """Offers what it was given, in order of arrival; nothing follows from an end."""

    def __init__(self, offers: Iterable[Offer]) -> None:
        self._offers = sorted(
            offers, key=lambda offer: (offer.request.arrival_ns, offer.request.id)
        )

    def offers(self) -> Iterator[Offer]:
        """In order of arrival."""
        return iter(self._offers)

    def on_end(self, request: Request, outcome: str, now_ns: int) -> Seq[Offer]:
        """Nothing."""
        del request, outcome, now_ns
        return ()
