"""Sequences on their way in: blocks reserved, KV pulled part by part, and not this instance's own until committed.

An instance that only decodes takes a prompt over under its own back-pressure: while what is on its way in holds
less than `pull_share` of its blocks, nobody waits here, and the prompt fits now.

Source: Zhong et al., "DistServe: Disaggregating Prefill and Decoding for Goodput-optimized Large Language Model
Serving", OSDI 2024, and its artifact (decode pulls; 5 %).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from headway.core.fleet import DECODE, NEVER, RETURNED, Handoff
from headway.core.plan import COPY_IN, IMPORT
from headway.core.request import Request
from headway.core.sequence import ENTERING, FINISHED, Sequence

if TYPE_CHECKING:
    from headway.runtime.instance import Instance, InstanceOptions
    from headway.runtime.moves import Moves

Reply = Callable[[str | None], None]


class Imports:
    """All of an instance."""

    def __init__(self, instance: Instance, moves: Moves, options: InstanceOptions) -> None:
        self._instance, self._moves = instance, moves
        self._share = options.pull_share
        self.entering: dict[int, Sequence] = {}
        self._replies: dict[int, Reply] = {}

    def take(self, request: Request, handoff: Handoff, peer: str, reply: Reply) -> bool:
        """Reserve blocks for a part and pull it; the reply comes with its KV, or at once when refused (False)."""
        sequence = self.entering.get(request.id)
        if sequence is None:
            sequence = Sequence(request, owner=self._instance)
            sequence.state = ENTERING
            why_not = "its first part is not here" if handoff.first else None
            why_not = why_not or self.refusal(request, handoff.computed_tokens)
        else:
            why_not = None if handoff.first else "it is on its way in already"
        pool = self._instance.pool
        count = handoff.first + handoff.blocks
        need = count - len(sequence.blocks)
        if why_not is None and need > pool.free:
            why_not = f"needs {need} KV blocks, {pool.free} are free: try another instance or later"
        if why_not is not None:
            reply(why_not)
            return False
        self.entering[request.id] = sequence
        _continue(sequence, handoff)
        if not handoff.last:
            sequence.computed_tokens = count * pool.block_tokens
        pool.grow(sequence, count * pool.block_tokens)
        if not handoff.blocks:
            reply(None)
            return True
        self._replies[request.id] = reply
        kind = IMPORT if handoff.last else COPY_IN
        self._moves.start(kind, sequence, peer, handoff.first, handoff.blocks)
        return True

    def refusal(self, request: Request, computed_tokens: int) -> str | None:
        """Why a request with so many computed tokens is not taken over, or None. Later parts only need blocks."""
        instance = self._instance
        if instance.stopped or instance.draining:
            return f"{instance.name} takes no more"
        why_never = instance.too_long(request)
        if why_never is not None:
            return NEVER + why_never
        if request.id in instance.sequences:
            return "it is here already"
        need = -(-computed_tokens // instance.pool.block_tokens)
        if need > instance.pool.free:
            return f"needs {need} KV blocks, {instance.pool.free} are free: try another instance or later"
        if instance.role == DECODE and computed_tokens:
            entering = sum(len(sequence.blocks) for sequence in self.entering.values())
            if entering and entering >= self._share * instance.pool.total:
                return f"{entering} KV blocks are on their way in: try another instance or later"
            if instance.queues.waiting:
                return f"{len(instance.queues.waiting)} wait here: try another instance or later"
        return None

    def landed(self, sequence: Sequence) -> None:
        """A part is here."""
        reply = self._replies.pop(sequence.id, None)
        if reply:
            reply(None)

    def end(self, request_id: int, *, commit: bool) -> None:
        """Go on with it from here, or give its blocks back."""
        instance, sequence = self._instance, self.entering.pop(request_id, None)
        if sequence is None:
            return
        if not commit:
            sequence.state = FINISHED
            if sequence.leases:
                instance.orphans.append(sequence)
            instance.pool.give_back(sequence)
            instance.executor.release(request_id)
            return
        instance.sequences[request_id] = sequence
        instance.prompt_tokens += sequence.request.prompt_tokens
        instance.streams += sequence.request.stage.period_ns > 0
        if instance.stopped:
            instance.finish(sequence, RETURNED)
            return
        instance.tell(instance.ears.submitted, sequence)
        instance.queues.enter(sequence)


def _continue(sequence: Sequence, handoff: Handoff) -> None:
    """Go on where the source was."""
    sequence.total_tokens, sequence.computed_tokens = handoff.total_tokens, handoff.computed_tokens
    sequence.output_tokens = handoff.output_tokens
    sequence.first_token_ns, sequence.last_token_ns = handoff.first_token_ns, handoff.last_token_ns
    sequence.output_ids = list(handoff.output_ids) or None
    sequence.started_ns, sequence.cached_tokens = handoff.started_ns, handoff.cached_tokens
    sequence.preemptions = handoff.preemptions
