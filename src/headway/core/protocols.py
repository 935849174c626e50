"""The seams. A world is a `Clock` plus an `Executor`; a policy is one of the others.

Simultaneous events run in the order (time, rank, key); keys are stable under leaping.
A policy must only have the method its kind names; what else it may say of itself is in `runtime.traits`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence as Seq
from typing import ClassVar, Protocol, runtime_checkable

from headway.core.fleet import ABORTED, Action, Handoff, Report
from headway.core.plan import Step, StepPlan, StepResult, Transfer, WorkDone
from headway.core.request import Request
from headway.core.sequence import Sequence
from headway.core.views import FleetView, InstanceView

RESULT, TRANSFER, ARRIVAL, WAKE = range(4)  # ranks

# What a world may offer and a policy may need.
LANES = "lanes"  # two or more lanes side by side
LAYERS = "layers"  # layer ranges and interrupts at layer boundaries
TRANSFERS = "transfers"  # KV to the host and back
COPIES = "copies"  # a `HostCopies`: copies on the host outlive the way back, and their request
DRAFTS = "drafts"  # draft tokens, verified
LEAPS = "leaps"  # repeats > 1
PREDICTS = "predicts"  # view.step_time_ns answers
PADDING = "padding"  # Work.pad_to changes the time of a step
SHARES = "shares"  # lanes contend for the device as their shares say
OVERLAP = "overlap"  # StepPlan.nano_batches changes the time of a step
DENOISES = "denoises"  # works that compute tokens again: the steps of a diffusion model


class Timer(Protocol):
    """A call that is due."""

    def cancel(self) -> None:
        """Forget it; no-op once it ran."""


class Clock(Protocol):
    """Where time passes. `post` is the only call allowed from another thread."""

    def now_ns(self) -> int:
        """Nanoseconds since the run began."""

    def call_at(
        self, time_ns: int, fn: Callable[[], None], rank: int = WAKE, key: int = 0
    ) -> Timer:
        """Run `fn` at `time_ns`, after simultaneous events of lower (rank, key). A past time means now."""

    def post(self, fn: Callable[[], None]) -> None:
        """Run `fn` soon, on the clock's own thread."""

    def passed(self, rank: int, key: int) -> bool:
        """Would an event of (rank, key) at the present time have run already?"""


class StepHandle(Protocol):
    """Our hold on a step in flight."""

    def interrupt(self, boundary: str) -> None:
        """End at the next `boundary` (step | layer) after now. No-op when it ends there anyway."""

    def settle(self) -> StepResult | None:
        """Hand over the repeats that landed since the last call; `on_done` will bring only the rest."""


class Executor(Protocol):
    """Runs steps and moves KV."""

    @property
    def offers(self) -> frozenset[str]:
        """Capabilities."""

    @property
    def layers(self) -> int:
        """Of the model."""

    def execute(self, step: Step, on_done: Callable[[StepResult], None]) -> StepHandle:
        """Queue a step on its lane. `on_done` fires exactly once and never inside this call."""

    def transfer(self, transfer: Transfer, on_done: Callable[[], None]) -> None:
        """Move KV. `on_done` fires exactly once and never inside this call."""

    def release(self, request_id: int) -> None:
        """The sequence has ended and its blocks are free: forget what was kept for it."""


class HostCopies(Protocol):
    """What an executor that offers `copies` also does. Copies are named by request id.

    A copy outlives `swap_in`; one that a `keep` has completed outlives `release`, until one of these is called.
    """

    def adopt_copy(self, from_id: int, to: Sequence, tokens: int) -> bool:
        """Give the copy of an ended turn to the next, which begins with `tokens` of it: its own from now on.

        False: it is not of these tokens, or came to nothing. Then it is forgotten.
        """

    def drop_copy(self, request_id: int) -> None:
        """Forget it; unknown ids are ignored."""


class TimingModel(Protocol):
    """Predicts step times."""

    @property
    def layers(self) -> int:
        """Of the model."""

    def durations_ns(self, step: Step, repeats: int) -> list[int]:
        """Whole nanoseconds of each repeat, alone on the device; `repeats=k` equals k calls as context grows."""

    def transfer_ns(self, transfer: Transfer) -> int:
        """Whole nanoseconds a transfer holds its link."""

    def chunk_time_ns(self, tokens: int, context_tokens: int) -> int:
        """One prefill chunk alone: `tokens` new tokens over `context_tokens` computed ones."""


class Outcomes(Protocol):
    """Says what came out of a step: a table of true lengths, or an engine's blocking compute."""

    @property
    def leaps(self) -> bool:
        """May `lefts` be asked?"""

    def lefts(self, sequences: Seq[Sequence]) -> list[int]:
        """Output tokens of each sequence until its model stops. Only a simulated world knows."""

    def outcome(self, step: Step, layers: int) -> Seq[WorkDone]:
        """The `WorkDone` of each work when the step stopped after `layers` layers (all: the model's count)."""

    def release(self, request_id: int) -> None:
        """The sequence has ended: forget what was kept for it."""


class Batching(Protocol):
    """What does this instance compute next?

    Every policy of an instance may also listen: `on_submit(sequence)` before it is queued, `on_step(step, result)`
    before a landed step is applied (some repeats of a leap at once), `on_end(sequence, outcome)`.

    May also define: `lanes: dict[str, int]` (lane -> steps in flight, 1 or 2; default one lane "main"),
    `needs: frozenset[str]`, `step_tokens: int` (most tokens one of its steps computes), `waits: bool` (True: it may
    plan nothing although work could run, until its `wake_at_ns`), `logit_rows: int` (most rows of logits held at
    once), `denoises = True` (it plans the steps of diffusion models too), and
    `on_event(view) -> {lane: boundary}`, called after a submit, release or wake while lanes are busy.
    """

    def plan(self, view: InstanceView) -> StepPlan:
        """Return work for idle lanes only."""


class Ordering(Protocol):
    """Who goes first? Smaller keys do. `dynamic = True` when keys change as sequences progress.

    `preempts = True`: who waits takes KV blocks from those who run behind it (through the memory policy).
    """

    dynamic: ClassVar[bool]

    def key(self, sequence: Sequence) -> tuple[float, ...]:
        """Comparable; end it with the request id so that no two are equal."""


class Memory(Protocol):
    """Whom to take blocks from, and how: `recompute` (room now) or `swap_out` (room later).

    May also define: `group_blocks: int`, how blocks lie and move: 0 (default) anywhere, gathered on the way; 1
    anywhere, moved one by one; more in extents, taken in groups of so many and moved extent by extent.
    `waits(view) -> bool`: must the lanes wait for what this plan swaps? `keeps_turns = True`: when a request with a
    next turn (in a server: of a session) finishes, its KV goes to the host. `incremental = True`: copies stay true on
    the way back, and only later blocks are moved out again. `kept_blocks: int`: most blocks of such copies, beside what
    is swapped out. The last three need `copies`.
    """

    def victims(
        self, view: InstanceView, blocks: int, candidates: Iterable[Sequence]
    ) -> Iterable[tuple[Sequence, str]]:
        """Choose among `candidates` (idle, behind the asker, last in order first); fewer means "not now"."""


class Speculation(Protocol):
    """How many tokens to draft? Asked when a plan takes decodes and names no number itself."""

    def drafts(self, view: InstanceView, decoding: Seq[Sequence]) -> int | Seq[int]:
        """Draft tokens for every one of `decoding`, or one number for all; 0 drafts nothing."""


class Admission(Protocol):
    """Accept, or say why not?"""

    def admit(self, request: Request, view: FleetView) -> str | None:
        """None to accept; else the reason, one sentence for the client."""


class Control(Protocol):
    """What should change in the fleet? Asked every `period_ns` while requests are in it.

    May also listen like a routing policy, and define `meet(routing)`: called once, with the routing policy of its
    fleet, by whose books it decides.
    """

    @property
    def period_ns(self) -> int: ...

    def tick(self, view: FleetView) -> Seq[Action]:
        """Return what to do now; the fleet does what is still possible."""


class Routing(Protocol):
    """Which instance? One of `view.instances`.

    A policy of a fleet with roles may define `hand_over(request, view) -> instance | None`, asked when a prefill
    instance has computed a prompt: where it decodes, or None to ask again when something changes. Every policy of a
    fleet may listen: `on_place(request, instance)` when a request is sent somewhere or has moved there, and
    `on_end(request, outcome)`. `reads_reports = True` asks for fresh reports.
    """

    def route(self, request: Request, view: FleetView) -> str:
        """Return an instance id."""


class Sink(Protocol):
    """Hears what an instance does. Times lie in the past when the instance leapt."""

    def on_tokens(self, step: Step, result: StepResult) -> None:
        """A step, or some repeats of one, landed. Called *before* progress is applied to its sequences:
        `sequence.last_token_ns` is still the time of the token before these.
        """

    def on_end(
        self, request: Request, sequence: Sequence | None, outcome: str, now_ns: int
    ) -> None:
        """Exactly once a request: finished | aborted | failed | shed | returned | rejected: why."""


class InstancePort(Protocol):
    """How a fleet talks to an instance: in this process, in another, or over HTTP.

    Submit, abort and end are delivered at least once and in order per request; reports may be lost.
    """

    def submit(self, request: Request, reply: Callable[[str | None], None]) -> None:
        """`reply(None)` once accepted, `reply(why)` when not. Instances ignore repeats."""

    def abort(self, request_id: int, outcome: str = ABORTED) -> None:
        """End the request wherever it is; unknown ids are ignored."""

    def watch(self, sink: Callable[[Report], None]) -> None:
        """Call `sink` with reports, as often as the port likes."""

    def export_to(
        self, request_id: int, peer: str, on_ready: Callable[[Handoff | None], None]
    ) -> None:
        """Copy the next part of a sequence's KV out; `on_ready(None)` when it ended before or cannot leave.

        Asked again after each handoff that is not the `last`.
        """

    def import_from(
        self, request: Request, handoff: Handoff, peer: str, reply: Callable[[str | None], None]
    ) -> None:
        """Take a part of a sequence; `reply(None)` once its KV is here, `reply(why)` when it is not taken."""

    def drain(self, on_drained: Callable[[], None]) -> None:
        """Take no more; call back after the last sequence and the last lease."""


@runtime_checkable
class MovingPort(InstancePort, Protocol):
    """A port over which sequences leave and come. Until `end_export` replies True the source owns a sequence."""

    def ask_import(self, request: Request, reply: Callable[[str | None], None]) -> None:
        """Would it take over `request` with its whole prompt computed? Reserves nothing."""

    def end_export(self, request_id: int, reply: Callable[[bool], None], *, gone: bool) -> None:
        """After the last handoff: forget it (`gone`) or go on with it. `reply(False)`: it had ended before."""

    def end_import(self, request_id: int, *, commit: bool) -> None:
        """Go on with a sequence that was taken over whole, or give back what was reserved for it."""

    def set_role(self, role: str) -> None:
        """From now on prefill, decode or mixed; sequences that wait to be handed over go on where they are."""

    def watch_computed(self, sink: Callable[[Request], None]) -> None:
        """Call `sink` when a prefill instance has computed a prompt."""


class Offer(Protocol):
    """A request as a workload offers it, with what only a simulated world may know."""

    @property
    def request(self) -> Request: ...
    @property
    def output_tokens(self) -> int: ...


class Workload(Protocol):
    """Who asks for what, when. Streams: holds no more than it needs to make the next offer."""

    def offers(self) -> Iterator[Offer]:
        """Open-loop offers in order of arrival."""

    def on_end(self, request: Request, outcome: str, now_ns: int) -> Seq[Offer]:
        """Offers that a request's end causes: the next turn, the next of a closed loop."""
