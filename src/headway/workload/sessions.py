"""Conversations: each turn's prompt is all that was said before, and a user thinks between turns.

Turn k has the prompt P(k) = P(k-1) + O(k-1) + N(k), with O what was answered and N what is newly typed.
Its `prefix` covers the whole prompt: everything of turn k-1, one extent named by turn k-1's `next_extent`
for its output, and one for N(k). So a cache that kept turn k-1 serves all of turn k but N(k).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from headway.core import NO_SLO, NS_PER_S, PrefixExtent, Request, Slo
from headway.core.fleet import FINISHED_OK
from headway.errors import OptionError
from headway.workload.arrivals import Arrivals, check_positive
from headway.workload.lengths import Distribution, LogNormal
from headway.workload.offered import DEFAULT_MAX_TOKENS, Offered, cap_for, check_cap
from headway.workload.shapes import Independent, Shapes

TURNS = LogNormal(median=1.594, sigma=1.3, most=256)
"""Turns of a session after BurstGPT: 36 % have one, the median is 2, 75 % at most 4, the mean about 4.2."""

SYSTEM_EXTENT = 1  # hash of the system prompt that all sessions share; the others lie above


def default_shapes() -> Independent:
    """New input as long as BurstGPT's requests (median 327, mean 478), output as long as Azure's."""
    return Independent(LogNormal.of(327, 478, 16_384), LogNormal.of(129, 211, 2048))


@dataclass(frozen=True, slots=True)
class Think:
    """Time between an answer and the next turn: lognormal, of seconds.

    The defaults were fitted by others to Bailian's trace A: median 124 s, mean 270 s.
    """

    mu: float = 4.82
    sigma: float = 1.25

    def __post_init__(self) -> None:
        """Check the spread."""
        check_positive("sigma", self.sigma)

    def draw_ns(self, rng: np.random.Generator, count: int) -> list[int]:
        """Draw `count` gaps in ns."""
        gaps = rng.lognormal(self.mu, self.sigma, count) * NS_PER_S
        return np.rint(gaps).astype(np.int64).tolist()  # type: ignore[no-any-return]


@dataclass(slots=True)
class _Session:
    """What is left of a session; the last request's prefix carries its history."""

    turns: list[tuple[int, int]]  # (new input, output) of each turn
    gaps_ns: list[int]  # before each turn but the first
    first_extent: int
    turn: int = 0  # the one in flight


class Sessions:
    """Open-loop sessions, closed-loop turns.

    All of a session is drawn when it starts, so two policies see the same sessions however fast they
    answer. A session ends early when a turn does not finish, or when the next would need more than
    `context_tokens` (prompt and output). Turns assume that the outputs were as long as offered.
    `sessions` limits how many start; only those in progress are held.
    """

    def __init__(
        self,
        arrivals: Arrivals,
        *,
        turns: Distribution = TURNS,
        shapes: Shapes | None = None,
        think: Think = Think(),
        sessions: int | None = None,
        system_tokens: int = 0,
        context_tokens: int | None = None,
        seed: int = 0,
        slo: Slo = NO_SLO,
        max_tokens: int = DEFAULT_MAX_TOKENS,
    ) -> None:
        check_cap(max_tokens)
        if context_tokens is not None:
            check_positive("context_tokens", context_tokens)
        if system_tokens < 0:
            raise OptionError(
                f"system_tokens is {system_tokens}, the least is 0: 0 means no shared system prompt"
            )
        self._arrivals = arrivals
        self._turns = turns
        self._shapes = default_shapes() if shapes is None else shapes
        self._think = think
        self._sessions = sessions
        self._context_tokens = float("inf") if context_tokens is None else context_tokens
        self._seed = seed
        self._slo = slo
        self._max_tokens = max_tokens
        self._system: tuple[PrefixExtent, ...] = ((SYSTEM_EXTENT, system_tokens),)[
            : bool(system_tokens)
        ]
        self._live: dict[int, _Session] = {}
        self._next_id = 0

    @property
    def live_sessions(self) -> int:
        """Sessions that were offered and may go on."""
        return len(self._live)

    def offers(self) -> Iterator[Offered]:
        """Offer first turns in order of arrival; starts the workload anew."""
        self._live = {}
        self._next_id = 0
        root = np.random.default_rng(self._seed)
        times, counts, lengths, thinking = root.spawn(4)
        drawn = zip(self._arrivals.times(times), self._turns.draws(counts), strict=False)
        pairs = self._shapes.pairs(lengths)
        extent = SYSTEM_EXTENT + 1
        for number, (arrival_ns, turns) in enumerate(islice(drawn, self._sessions)):
            gaps_ns = self._think.draw_ns(thinking, turns - 1)
            session = _Session(list(islice(pairs, turns)), gaps_ns, extent)
            extent += 2 * turns  # an input and an output extent each
            offer = self._offer(number, session, arrival_ns, self._system)
            if offer is not None:
                yield offer

    def on_end(self, request: Request, outcome: str, now_ns: int) -> Sequence[Offered]:
        """Offer the next turn, after the user's thinking time."""
        number = request.session
        session = None if number is None else self._live.pop(number, None)
        if number is None or session is None or outcome != FINISHED_OK:
            return ()
        turn = session.turn  # not the last one: then it would not live
        answered = (session.first_extent + 2 * turn + 1, session.turns[turn][1])
        session.turn = turn + 1
        arrival_ns = now_ns + session.gaps_ns[turn]
        offer = self._offer(number, session, arrival_ns, (*request.prefix, answered))
        return () if offer is None else (offer,)

    def _offer(
        self, number: int, session: _Session, arrival_ns: int, history: tuple[PrefixExtent, ...]
    ) -> Offered | None:
        """Make the session's turn; None when it would not fit the context."""
        new_tokens, output_tokens = session.turns[session.turn]
        extent = session.first_extent + 2 * session.turn
        prompt_tokens = sum(tokens for _, tokens in history) + new_tokens
        if prompt_tokens + output_tokens > self._context_tokens:
            return None
        request = Request(
            self._next_id,
            arrival_ns,
            prompt_tokens,
            cap_for(output_tokens, self._max_tokens),
            self._slo,
            session=number,
            prefix=(*history, (extent, new_tokens)),
            next_extent=extent + 1,
        )
        self._next_id += 1
        if session.turn + 1 < len(session.turns):
            self._live[number] = session
        return Offered(request, output_tokens)
