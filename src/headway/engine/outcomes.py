"""The engine as a table of outcomes: a simulated clock says when, this model says what.

With recorded durations it replays a live run exactly; with modelled ones it is a simulator of real text.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

from headway.core.plan import Step, WorkDone
from headway.core.sequence import Sequence
from headway.engine.books import Books
from headway.engine.compute import Compute
from headway.engine.decoder import Decoder
from headway.engine.kv_pool import KvPool


class TorchOutcomes:
    """Computes a step when it lands, on the caller's thread. KV stays in place: there are no transfers."""

    leaps = False

    def __init__(
        self,
        model: Decoder,
        *,
        blocks: int,
        block_tokens: int = 16,
        stops: frozenset[int] = frozenset(),
    ) -> None:
        self._books = Books(model.config.layers, stops)
        self._compute = Compute(model, KvPool(model.config, blocks, block_tokens, model.dtype))

    def lefts(self, sequences: Seq[Sequence]) -> list[int]:
        """Nobody knows how long a real model will talk: there are no leaps, and nobody asks."""
        raise AssertionError(f"asked how long {len(sequences)} sequences will go on")

    def outcome(self, step: Step, layers: int) -> Seq[WorkDone]:
        """Compute the first `layers` layers of `step`."""
        jobs = self._books.jobs(step)
        computed = self._compute.run(jobs, lambda reached: reached < layers)
        Books.landed(jobs)
        return computed.done

    def release(self, request_id: int) -> None:
        """Forget a request that has ended."""
        self._books.release(request_id)
