"""The port of an instance in this process, and the sink between that instance and its fleet."""

from __future__ import annotations

from collections.abc import Callable

from headway.core.fleet import ABORTED, Handoff, Report
from headway.core.plan import Step, StepResult
from headway.core.protocols import Clock, Sink
from headway.core.request import Request
from headway.core.sequence import Sequence
from headway.runtime.instance import Instance


class LocalPort:
    """Implements `MovingPort` and, towards the instance, `Sink`.

    Reports go out every `report_interval_ns` while requests are here; None: on demand of nobody, never.
    """

    def __init__(self, clock: Clock, sink: Sink, report_interval_ns: int | None = None) -> None:
        self._clock, self._sink, self._interval_ns = clock, sink, report_interval_ns
        self._watch: Callable[[Report], None] | None = None
        self._ticking = False
        self.on_tokens: Callable[[Step, StepResult], None] = sink.on_tokens
        self.ended: Callable[[Request, str], None] = lambda request, outcome: None
        self.instance: Instance

    def on_end(
        self, request: Request, sequence: Sequence | None, outcome: str, now_ns: int
    ) -> None:
        """From the instance: account for it, then tell the fleet."""
        self._sink.on_end(request, sequence, outcome, now_ns)
        self.ended(request, outcome)

    def submit(self, request: Request, reply: Callable[[str | None], None]) -> None:
        """Hand over; the reply comes at once."""
        why_not = self.instance.submit(request)
        if why_not is None:
            self._start_reports()
        reply(why_not)

    def abort(self, request_id: int, outcome: str = ABORTED) -> None:
        """Pass on."""
        self.instance.abort(request_id, outcome)

    def watch(self, sink: Callable[[Report], None]) -> None:
        """Reports go to `sink`; the first at once."""
        self._watch = sink
        sink(self.instance.report())

    def export_to(
        self, request_id: int, peer: str, on_ready: Callable[[Handoff | None], None]
    ) -> None:
        """Pass on."""
        self.instance.moving.export_to(request_id, peer, on_ready)

    def import_from(
        self, request: Request, handoff: Handoff, peer: str, reply: Callable[[str | None], None]
    ) -> None:
        """Pass on; the reply comes with the KV, or at once when it is refused."""
        self.instance.moving.import_from(request, handoff, peer, reply)

    def ask_import(self, request: Request, reply: Callable[[str | None], None]) -> None:
        """Pass on; the reply comes at once."""
        reply(self.instance.moving.ask_import(request))

    def end_export(self, request_id: int, reply: Callable[[bool], None], *, gone: bool) -> None:
        """Pass on; the reply comes at once."""
        reply(self.instance.moving.end_export(request_id, gone=gone))

    def end_import(self, request_id: int, *, commit: bool) -> None:
        """Pass on."""
        self.instance.moving.end_import(request_id, commit=commit)
        if commit:
            self._start_reports()

    def set_role(self, role: str) -> None:
        """Pass on."""
        self.instance.moving.set_role(role)

    def watch_computed(self, sink: Callable[[Request], None]) -> None:
        """Pass on."""
        self.instance.moves.exports.on_computed = sink

    def drain(self, on_drained: Callable[[], None]) -> None:
        """Pass on."""
        self.instance.drain(on_drained)

    def _start_reports(self) -> None:
        if self._interval_ns and not self._ticking:
            self._ticking = True
            self._tick()

    def _tick(self) -> None:
        report = self.instance.report()
        if self._watch:
            self._watch(report)
        self._ticking = bool(self.instance.sequences) and self._interval_ns is not None
        if self._ticking and self._interval_ns:
            self._clock.call_at(
                report.time_ns + self._interval_ns, self._tick, key=self.instance.key
            )
