"""Tells `metrics.Recorder` what happened over HTTP, in its own words: synthetic steps, as they land.

Each event of a stream is a step of one work that emitted one token. Tokens that a server put together
into one event are known only by its `usage`, at the end; they are booked then with gap 0, as the tokens of a
speculative step are. So the keys, their definitions and the code behind them are those of the simulator. What
no client can see (when a request first took part in a step) is left out of the summary.
"""

from __future__ import annotations

from dataclasses import replace

from headway.core import Request, Sequence, Step, StepResult, WorkDone
from headway.core.fleet import FINISHED_OK
from headway.core.plan import DONE as STEP_DONE
from headway.loadgen.call import Call
from headway.metrics import Recorder


class Ledger:
    """Books the calls of one run into `recorder`. Events must come in the order of time."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self._open: dict[int, Sequence] = {}

    def offered(self, request: Request) -> None:
        """It is due: from here on it counts, whatever becomes of it."""
        self.recorder.on_offer(request)
        self._open[request.id] = Sequence(request)

    def tokens(self, call: Call) -> None:
        """An event brought tokens: at least one."""
        self._emit(self._open[call.request.id], 1, call.last_ns)

    def ended(self, call: Call) -> None:
        """It is over; sets the call's `output_tokens`."""
        request = call.request
        sequence = self._open.pop(request.id)
        usage = call.usage
        counted = usage.completion_tokens if usage is not None else 0
        heard = len(call.stamps)
        if (
            counted > heard and call.closing_ns > call.last_ns
        ):  # the last event was a token after all
            call.stamps.append(call.closing_ns)
            call.last_ns = call.closing_ns
            if call.first_ns < 0:
                call.first_ns = call.closing_ns
            self._emit(sequence, 1, call.closing_ns)
            heard += 1
        if counted > heard:
            self._emit(sequence, counted - heard, call.last_ns if heard else call.end_ns)
        call.output_tokens = sequence.output_tokens = counted or heard
        if usage is not None:
            sequence.cached_tokens = usage.cached_tokens
            if usage.prompt_tokens:
                request = replace(request, prompt_tokens=usage.prompt_tokens)
        told = call.outcome if call.outcome == FINISHED_OK else f"{call.outcome}: {call.error}"
        self.recorder.on_end(request, sequence, told, call.end_ns)

    def _emit(self, sequence: Sequence, tokens: int, now_ns: int) -> None:
        step = Step(0, "http", (sequence.decode,))
        done = (WorkDone(0, tokens, tokens),)
        self.recorder.on_tokens(step, StepResult(STEP_DONE, done, (now_ns,)))
        sequence.output_tokens += tokens
        sequence.last_token_ns = now_ns
        if sequence.first_token_ns < 0:
            sequence.first_token_ns = sequence.started_ns = now_ns
