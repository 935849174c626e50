"""An instance's entries for sequences that leave, come, or change what they do here. See `core.MovingPort`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from headway.core.fleet import PREFILL, Handoff
from headway.core.request import Request
from headway.core.sequence import RUNNING

if TYPE_CHECKING:
    from headway.runtime.instance import Instance


class Moving:
    """Like every entry: settle leaps, change the books, let the policy fill idle lanes."""

    def __init__(self, instance: Instance) -> None:
        self._instance, self._moves = instance, instance.moves

    def export_to(
        self, request_id: int, peer: str, on_ready: Callable[[Handoff | None], None]
    ) -> None:
        """Copy the next part of a sequence out; `on_ready(None)` when it is not here any more or cannot leave."""
        instance, exports = self._instance, self._moves.exports
        sequence = instance.sequences.get(request_id)
        if sequence is None:
            on_ready(None)
            return
        instance.settle()
        exports.next_part(sequence, peer, on_ready)
        if exports.due or sequence.state != RUNNING:
            instance.changed()

    def end_export(self, request_id: int, *, gone: bool) -> bool:
        """Forget a sequence that left, or go on with it; False when it had ended before."""
        self._instance.settle()
        was_here = self._moves.exports.end(request_id, gone=gone)
        if was_here:
            self._done()
        return was_here

    def ask_import(self, request: Request) -> str | None:
        """Why it would not take this request over with its prompt computed, or None."""
        self._instance.settle()
        return self._moves.imports.refusal(request, request.prompt_tokens)

    def import_from(
        self, request: Request, handoff: Handoff, peer: str, reply: Callable[[str | None], None]
    ) -> None:
        """Take a part of a sequence; why not, or None once its KV is here."""
        instance = self._instance
        instance.settle()
        if self._moves.imports.take(request, handoff, peer, reply) and not instance.stopped:
            instance.changed()

    def end_import(self, request_id: int, *, commit: bool) -> None:
        """Go on with a sequence that came, or give back what was reserved for it."""
        if request_id in self._moves.imports.entering:
            self._instance.settle()
            self._moves.imports.end(request_id, commit=commit)
            self._done()

    def set_role(self, role: str) -> None:
        """From now on mixed, prefill or decode; what it has, it ends, parked prompts included."""
        instance, exports = self._instance, self._moves.exports
        instance.role, instance.parks = role, role == PREFILL
        if not instance.parks and exports.parked:
            instance.settle()
            exports.unpark()
            instance.changed()

    def _done(self) -> None:
        if not self._instance.stopped:
            self._instance.changed()
        self._instance.check_drained()
