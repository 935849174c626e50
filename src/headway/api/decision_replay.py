"""Would the same policies, shown the same events, have decided the same? Replay a run log and compare every step.

Nothing is predicted here. Requests enter, steps land and clients give up in the order and at the times of the log,
on a virtual clock; what the instance decides in between is its own, and is compared with what the log says it
decided: the members of each step, and their tokens, contexts, drafts and layers. The first difference ends the
comparison: after it, the two runs are in different states.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from headway.api.policy_choices import choose, label_of, options_by_kind
from headway.api.replay import DEFAULTS, named_answers
from headway.clocks import VirtualClock
from headway.core import Request, Sequence, Step, StepResult, Transfer, WorkDone
from headway.core.fleet import ABORTED, FINISHED_OK
from headway.core.plan import FAILED, INTERRUPTED
from headway.core.protocols import (
    COPIES,
    DRAFTS,
    LANES,
    LAYERS,
    PADDING,
    PREDICTS,
    RESULT,
    TRANSFERS,
    TimingModel,
)
from headway.errors import WorkloadError
from headway.records import Ended, Line, RunLog, Stepped, Submitted, WorkLine
from headway.runtime import Instance, InstanceOptions

_SHOWN = 6  # works of a step in a message


@dataclass(frozen=True)
class Agreement:
    """`agreed` of `steps` steps were decided alike, all before the first difference."""

    agreed: int
    steps: int
    difference: str = ""  # the first; empty when there is none

    @property
    def whole(self) -> bool:
        """Did every step agree?"""
        return self.agreed == self.steps and not self.difference

    def __str__(self) -> str:
        """One line, and the difference on another."""
        line = f"{self.agreed} of {self.steps} steps decided alike"
        return f"{line}\n{self.difference}" if self.difference else line


def replay_decisions(
    log: RunLog,
    *,
    timing: TimingModel | None = None,
    prefix_cache: bool = True,
    seed: int = 0,
) -> Agreement:
    """Compare every decision of a run with those that its policies take again.

    `timing` is what the policies asked for predictions, where the run had one; no duration comes from it.
    Transfers are not in a log: they are taken to need no time, which is right for policies that never swap.

    Raises:
        WorkloadError: a log without a step.
        UnknownNameError: policies or options that do not exist here.
    """
    if not log.steps:
        raise WorkloadError("the run log has no step: nothing was decided")
    return _Replay(log, timing, prefix_cache=prefix_cache, seed=seed).run()


class _Handle:
    """A step in flight; that it is interrupted is in the log too."""

    def interrupt(self, boundary: str) -> None:
        del boundary

    def settle(self) -> None:
        return None


class _Scripted:
    """Implements `Executor`: holds steps until the log says that they landed."""

    def __init__(self, clock: VirtualClock, layers: int, *, predicts: bool) -> None:
        offers = {LANES, LAYERS, TRANSFERS, COPIES, DRAFTS, PADDING}
        self.offers = frozenset(offers | {PREDICTS} if predicts else offers)
        self.layers = layers
        self.pending: dict[str, deque[tuple[Step, list[WorkLine], Callable[[StepResult], None]]]]
        self.pending = defaultdict(deque)
        self._clock = clock

    def execute(self, step: Step, on_done: Callable[[StepResult], None]) -> _Handle:
        """Keep the decision as the log would have written it."""
        decided = []
        for work in step.work:
            first, last = work.layers or (0, self.layers)
            context = work.sequence.computed_tokens + work.sequence.pending_tokens
            until = -1 if last == self.layers else last
            decided.append(
                WorkLine(work.sequence.id, context, work.tokens, 0, work.draft_tokens, first, until)
            )
        self.pending[step.lane].append((step, decided, on_done))
        return _Handle()

    def transfer(self, transfer: Transfer, on_done: Callable[[], None]) -> None:
        """Done at once."""
        del transfer
        self._clock.post(on_done)

    def adopt_copy(self, from_id: int, to: Sequence, tokens: int) -> bool:
        """Nothing is kept here: it is taken to be true."""
        del from_id, to, tokens
        return True

    def drop_copy(self, request_id: int) -> None:
        """Nothing is kept."""

    def release(self, request_id: int) -> None:
        """Nothing is kept."""


class _Deaf:
    """Implements `Sink`."""

    def on_tokens(self, step: Step, result: StepResult) -> None:
        del step, result

    def on_end(
        self, request: Request, sequence: Sequence | None, outcome: str, now_ns: int
    ) -> None:
        del request, sequence, outcome, now_ns


class _Replay:
    def __init__(
        self, log: RunLog, timing: TimingModel | None, *, prefix_cache: bool, seed: int
    ) -> None:
        opened = log.opened
        self._log, self._lines = log, iter(log.lines)
        self._clock = VirtualClock()
        self._executor = _Scripted(self._clock, opened.layers, predicts=timing is not None)
        kinds = ("batching", "ordering", "memory")
        named = {kind: opened.policies.get(kind, DEFAULTS[kind]) for kind in kinds}
        labels = {kind: label_of(name) for kind, name in named.items()}
        options = options_by_kind(opened.options, labels, strict=False)
        batching, ordering, memory = (choose(k, named[k], options[k]).make() for k in kinds)
        limits = InstanceOptions(
            opened.blocks,
            opened.block_tokens,
            prefix_cache=prefix_cache,
            leap=False,
            seed=seed,
            names=named_answers(log),
        )
        self._instance = Instance(
            self._clock, self._executor, (batching, ordering, memory), limits, _Deaf(), timing
        )
        self._last_step = {
            work.id: number for number, step in enumerate(log.steps) for work in step.works
        }
        self._outcomes = {end.id: end.outcome for end in log.ended}
        self._agreed = 0
        self._difference = ""

    def run(self) -> Agreement:
        """Line by line: each is scheduled once the one before it has happened."""
        self._next()
        self._clock.run()
        if self._instance.stopped is not None and not self._difference:
            self._difference = f"the replayed instance stopped: {self._instance.stopped}"
        return Agreement(self._agreed, len(self._log.steps), self._difference)

    def _next(self) -> None:
        line = next(self._lines, None)
        if line is not None and not self._difference:
            time_ns = line.end_ns if isinstance(line, Stepped) else _now_ns(line)
            self._clock.call_at(time_ns, partial(self._happen, line), RESULT)

    def _happen(self, line: Line) -> None:
        if isinstance(line, Submitted):
            self._instance.submit(_request(line))
        elif isinstance(line, Stepped):
            self._land(line)
        elif isinstance(line, Ended) and line.outcome.startswith(ABORTED):
            self._instance.abort(line.id)
        self._next()

    def _land(self, line: Stepped) -> None:
        queue = self._executor.pending[line.lane]
        at = f"step {self._agreed + 1} (of lane {line.lane}, at {line.end_ns / 1e9:.3f} s)"
        if not queue:
            self._difference = f"{at}: the log has {_told(line.works)}; replayed, nothing runs"
            return
        _, decided, on_done = queue.popleft()
        wanted = [_decision(work) for work in line.works]
        if [_decision(work) for work in decided] != wanted:
            self._difference = f"{at}: the log has {_told(line.works)}; replayed, {_told(decided)}"
            return
        number, self._agreed = self._agreed, self._agreed + 1
        done = [self._done(work, number, line.status) for work in line.works]
        if line.status == FAILED:
            done = []
        on_done(StepResult(line.status, done, [self._clock.now_ns()]))

    def _done(self, work: WorkLine, number: int, status: str) -> WorkDone:
        """What the log says came of a work; it ended the request when no later step has it."""
        layers = self._executor.layers
        last = layers if work.last_layer < 0 else work.last_layer
        if status == INTERRUPTED or last < layers:
            return WorkDone(last if last < layers else layers - 1, 0, 0)
        certain = work.tokens - work.draft_tokens
        ended = self._outcomes.get(work.id) == FINISHED_OK and self._last_step[work.id] == number
        return WorkDone(
            layers,
            certain + work.emitted - 1 if work.emitted else certain,
            work.emitted,
            ended and work.emitted > 0,
        )


def _now_ns(line: Line) -> int:
    assert isinstance(line, Submitted | Ended)
    return line.now_ns


def _decision(work: WorkLine) -> tuple[int, ...]:
    return (
        work.id,
        work.context,
        work.tokens,
        work.draft_tokens,
        work.first_layer,
        work.last_layer,
    )


def _request(line: Submitted) -> Request:
    return Request(
        line.id,
        line.arrival_ns,
        line.prompt_tokens,
        line.max_tokens,
        line.slo,
        line.tenant,
        line.session,
        prefix=line.prefix,
        next_extent=line.next_extent,
    )


def _told(works: tuple[WorkLine, ...] | list[WorkLine]) -> str:
    shown = [f"request {work.id}: {work.tokens} tokens after {work.context}" for work in works]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return f"[{'; '.join(shown[:_SHOWN])}{more}]"
