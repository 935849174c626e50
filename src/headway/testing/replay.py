"""Record what a batching policy saw, heard and decided; show it to a fresh one: it must decide the same.

A snapshot holds the books a view reads, copied: sequences' fields, queues, what is in flight, free blocks and the
cached extents that anybody could start on. What a policy that listens was told is kept in order, as it was then.
Policies without hidden inputs cannot tell it from the instance. Sequences are made anew for every call: a policy
remembers request ids, not sequences.
"""

# ruff: noqa: SLF001 - books are rebuilt from the inside.

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence as Seq
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

from headway.core.plan import Step, StepPlan, StepResult, Work
from headway.core.protocols import Memory, TimingModel
from headway.core.request import Request
from headway.core.sequence import Sequence
from headway.core.views import InstanceView
from headway.runtime.blocks import BlockPool
from headway.runtime.instance import Instance
from headway.runtime.make_way import make_way
from headway.runtime.prefix_index import PrefixIndex, PrefixNode
from headway.runtime.queues import Queues
from headway.runtime.view import View

_COPIED = tuple(
    name
    for name in Sequence.__slots__
    if name not in ("blocks", "decode", "nodes", "output_ids", "owner", "request")
)
_QUEUES = ("waiting", "running", "decoding", "prefilling")

WorkData = tuple[int, int, tuple[int, int] | None, int, str | None, int | None]
"""(request id, tokens, layers, draft tokens, device, pad to)."""


class PlanData(NamedTuple):
    """A plan, and what the draft recorded on the way, without references into the books."""

    work: dict[str, tuple[WorkData, ...]]
    shares: dict[str, int]
    shed: tuple[int, ...]
    wake_at_ns: int | None
    steady: bool
    preempted: tuple[int, ...]
    swapped_out: tuple[int, ...]
    swapped_in: tuple[int, ...]


class SequenceData(NamedTuple):
    """A sequence as it was: its request, its plain fields, its blocks and the extents it holds."""

    request: Request
    fields: tuple[Any, ...]
    blocks: int
    nodes: tuple[int, ...]


class NodeData(NamedTuple):
    """A cached extent as it was."""

    tenant: str
    hash: int
    blocks: int
    end_blocks: int
    holders: int


@dataclass(frozen=True)
class Snapshot:
    """The books at one call of a policy."""

    now_ns: int
    idle_lanes: tuple[str, ...]
    free_blocks: int
    sequences: dict[int, SequenceData]
    queues: dict[str, tuple[int, ...]]
    flights: dict[str, tuple[tuple[WorkData, ...], ...]]
    nodes: dict[int, NodeData]
    host_held: int
    leaving_blocks: int
    busy: int
    partials: bool
    rng_state: Any = field(compare=False)


@dataclass(frozen=True)
class Call:
    """One call of `plan` (a PlanData came out) or of `on_event` (lane -> boundary)."""

    snapshot: Snapshot
    decision: PlanData | dict[str, str]


@dataclass(frozen=True)
class Heard:
    """One call of a listener: the sequences it was shown as they were, and the rest of what it was told."""

    method: str  # on_submit | on_step | on_end
    sequences: dict[int, SequenceData]
    works: tuple[WorkData, ...] = ()
    step: Step | None = None  # without sequences
    result: StepResult | None = None
    decodes: tuple[int, ...] = ()
    outcome: str = ""


class Recording:
    """A batching policy that writes down every call, and refuses one that changes what it was only shown.

    Set `instance` before the first call.
    """

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.calls: list[Call] = []
        self.heard: list[tuple[int, Heard]] = []  # after so many calls
        self.instance: Instance
        self.idle_plans = (
            0  # plans without work although something could run and nothing was in flight
        )
        if hasattr(policy, "on_event"):
            self.on_event: Callable[[InstanceView], dict[str, str]] = self._on_event
        if hasattr(policy, "on_submit"):
            self.on_submit: Callable[[Sequence], None] = self._on_submit
        if hasattr(policy, "on_step"):
            self.on_step: Callable[[Step, StepResult], None] = self._on_step
        if hasattr(policy, "on_end"):
            self.on_end: Callable[[Sequence, str], None] = self._on_end

    @classmethod
    def of(cls, policy: Any) -> Recording:
        """Record `policy` under its own name: that is what a PlanError calls it."""
        named: type[Recording] = type(type(policy).__name__, (cls,), {})
        return named(policy)

    def __getattr__(self, name: str) -> Any:
        """What else the policy says of itself: lanes, needs, step_tokens."""
        if name == "policy":
            raise AttributeError(name)
        return getattr(self.policy, name)

    def plan(self, view: InstanceView) -> StepPlan:
        """Pass on, and compare the books before and after."""
        before = snapshot(self.instance)
        plan = cast("StepPlan", self.policy.plan(view))
        decision = plan_data(plan, self.instance.view)
        self._unchanged(before, "plan")
        self.calls.append(Call(before, decision))
        works = any(decision.work.values()) or decision.shed
        moves = decision.preempted or decision.swapped_out or decision.swapped_in
        if not (works or moves or before.busy or self.instance.moves.under_way):
            self.idle_plans += self._could_run()
        return plan

    def _could_run(self) -> bool:
        """After an empty plan: could anybody have been taken? Its draft is empty, so it may be used for this."""
        view = self.instance.view
        found = any(
            view.take(sequence, sequence.remaining_tokens, lane) is not None
            for sequence in (*view.running, *view.waiting[:1])  # who is behind it must not overtake
            for lane in view.idle_lanes
        )
        view.open(view.now_ns, view.idle_lanes)
        return found

    def _on_event(self, view: InstanceView) -> dict[str, str]:
        before = snapshot(self.instance)
        decision = cast("dict[str, str]", self.policy.on_event(view))
        self._unchanged(before, "on_event")
        self.calls.append(Call(before, dict(decision)))
        return decision

    def _on_submit(self, sequence: Sequence) -> None:
        self._hear(Heard("on_submit", _shown([sequence])), sequence)

    def _on_step(self, step: Step, result: StepResult) -> None:
        told = result._replace(done=tuple(result.done), ends_ns=tuple(result.ends_ns))
        heard = Heard(
            "on_step",
            _shown([work.sequence for work in step.work]),
            _works(step.work),
            step._replace(work=(), decodes=()),
            told,
            tuple(sequence.id for sequence in step.decodes),
        )
        self._hear(heard, step, result)

    def _on_end(self, sequence: Sequence, outcome: str) -> None:
        self._hear(Heard("on_end", _shown([sequence]), outcome=outcome), sequence, outcome)

    def _hear(self, heard: Heard, *told: Any) -> None:
        getattr(self.policy, heard.method)(*told)
        shown = told[:1] if heard.step is None else [work.sequence for work in told[0].work]
        assert _shown(shown) == heard.sequences, (
            f"{type(self.policy).__name__}.{heard.method}() changed a sequence it was told of"
        )
        self.heard.append((len(self.calls), heard))

    def _unchanged(self, before: Snapshot, method: str) -> None:
        name = type(self.policy).__name__
        assert snapshot(self.instance) == before, (
            f"{name}.{method}() changed the books behind its view: views are read-only"
        )


def snapshot(instance: Instance) -> Snapshot:
    """Copy the books that a view reads."""
    index, nodes = instance.pool.index, dict[int, PrefixNode]()
    sequences: dict[int, SequenceData] = {}
    flights = {
        lane: tuple(_works(flight.step.work) for flight in queue)
        for lane, queue in instance.flights.items()
    }
    flying = [w[0] for queue in instance.flights.values() for f in queue for w in f.step.work]
    for sequence in (*instance.queues.running, *instance.queues.waiting, *flying):
        if sequence.id in sequences:
            continue
        held = cast("tuple[PrefixNode, ...]", sequence.nodes)
        matched: Seq[PrefixNode] = ()
        if index is not None and sequence.request.prefix and not sequence.blocks:
            matched = index.match(sequence.request, instance.pool.block_tokens)
        nodes.update({id(node): node for node in (*held, *matched)})
        sequences[sequence.id] = SequenceData(
            sequence.request,
            tuple(getattr(sequence, name) for name in _COPIED),
            len(sequence.blocks),
            tuple(id(node) for node in held),
        )
    return Snapshot(
        instance.view.now_ns,
        tuple(instance.view.idle_lanes),
        instance.pool.free,
        sequences,
        {name: tuple(s.id for s in getattr(instance.queues, name)) for name in _QUEUES},
        flights,
        {
            key: NodeData(node.tenant, node.hash, len(node.blocks), node.end_blocks, node.holders)
            for key, node in nodes.items()
        },
        instance.moves.host_held,
        instance.moves.leaving_blocks,
        instance.busy,
        instance.partials,
        instance.view.rng.getstate(),
    )


def plan_data(plan: StepPlan, view: View) -> PlanData:
    """Reduce a plan and its draft to plain data."""
    draft = view.draft
    return PlanData(
        {lane: _works(works) for lane, works in plan.work.items()},
        dict(plan.shares),
        tuple(s.id for s in plan.shed),
        plan.wake_at_ns,
        plan.steady,
        tuple(s.id for s in draft.preempted),
        tuple(s.id for s in draft.swapped_out),
        tuple(s.id for s in draft.swapped_in),
    )


def _shown(sequences: Iterable[Sequence]) -> dict[int, SequenceData]:
    """Sequences as they are now, without the extents they hold."""
    return {
        sequence.id: SequenceData(
            sequence.request,
            tuple(getattr(sequence, name) for name in _COPIED),
            len(sequence.blocks),
            (),
        )
        for sequence in sequences
    }


def _tell(policy: Any, heard: Heard) -> None:
    """Tell a fresh policy what another heard."""
    sequences = {key: _sequence(data, {}, owner=None) for key, data in heard.sequences.items()}
    listener = getattr(policy, heard.method)
    if heard.step is not None:
        works = [Work(sequences[work[0]], *work[1:]) for work in heard.works]
        decodes = [sequences[key] for key in heard.decodes]
        listener(heard.step._replace(work=works, decodes=decodes), heard.result)
        return
    (sequence,) = sequences.values()
    listener(sequence, *([heard.outcome] if heard.method == "on_end" else []))


def replay(recording: Recording, policy: Any, memory: Memory | None = None) -> int:
    """Show all recorded views to a fresh policy, and tell it what was heard between them; returns how many.

    Raises:
        AssertionError: it decides differently; the message gives both decisions.
    """
    instance = recording.instance
    view: View | None = None
    heard = iter(recording.heard)
    pending = next(heard, None)
    for number, call in enumerate(recording.calls):
        while pending and pending[0] <= number:
            _tell(policy, pending[1])
            pending = next(heard, None)
        books = _Books(call.snapshot, instance, memory or instance.memory)
        view = books.view
        if isinstance(call.decision, PlanData):
            view.open(call.snapshot.now_ns, list(call.snapshot.idle_lanes))
            if instance.preempts:
                make_way(cast("Instance", books))
            decision: PlanData | dict[str, str] = plan_data(policy.plan(view), view)
        else:
            view.now_ns, view.idle_lanes = call.snapshot.now_ns, list(call.snapshot.idle_lanes)
            decision = dict(policy.on_event(view))
        assert decision == call.decision, (
            f"{type(policy).__name__} decides differently when call {number} is shown to it again:"
            f" {decision}, recorded was {call.decision}; it has an input besides its view"
        )
    return len(recording.calls)


class _Books:
    """Stands in for an Instance behind a View: restored from a snapshot."""

    def __init__(self, shot: Snapshot, instance: Instance, memory: Memory) -> None:
        self.memory, self.timing = memory, instance.timing
        self.speculation = None  # its answers are inputs of a plan: recordings are made without it
        self.lanes, self.layers = instance.lanes, instance.layers
        self.step_tokens, self.overlapped = instance.step_tokens, instance.overlapped
        self.busy, self.partials = shot.busy, shot.partials
        self.preempts = instance.preempts
        nothing = SimpleNamespace(due=())
        self.moves = SimpleNamespace(leaving_blocks=shot.leaving_blocks, exports=nothing)
        self._host_blocks, self._host_held = instance.moves.host_blocks, shot.host_held
        self.queues = Queues(instance.ordering)
        index = PrefixIndex(salted=True) if instance.pool.index else None
        self.pool = BlockPool(instance.pool.total, instance.pool.block_tokens, index=index)
        nodes = {key: _node(data, index) for key, data in shot.nodes.items()}
        if instance.pool.index and index:
            index._salted = instance.pool.index._salted
        self.sequences = {
            key: _sequence(data, nodes, owner=self) for key, data in shot.sequences.items()
        }
        for name in _QUEUES:
            getattr(self.queues, name).extend(self.sequences[i] for i in shot.queues[name])
        self.pool._fresh = self.pool.total - shot.free_blocks
        if index:
            self.pool._fresh += index.evictable_blocks
        self.flights = {
            lane: [
                SimpleNamespace(step=SimpleNamespace(work=self._unpack(works))) for works in all_
            ]
            for lane, all_ in shot.flights.items()
        }
        rng = Random()
        rng.setstate(shot.rng_state)
        self.view = View(cast("Instance", self), rng)

    timing: TimingModel | None

    def _unpack(self, works: Seq[WorkData]) -> list[Work]:
        return [Work(self.sequences[work[0]], *work[1:]) for work in works]

    def host_has_room(self, sequence: Sequence) -> bool:
        if self._host_blocks is None:
            return True
        leaving = sum(len(other.blocks) for other in self.view.draft.swapped_out)
        return self._host_held + leaving + len(sequence.blocks) <= self._host_blocks

    def may_overlap(self, sequence: Sequence, lane: str) -> bool:
        return Instance.may_overlap(cast("Instance", self), sequence, lane)


def _works(works: Seq[Work]) -> tuple[WorkData, ...]:
    return tuple((work[0].id, *work[1:]) for work in works)


def _node(data: NodeData, index: PrefixIndex | None) -> PrefixNode:
    assert index is not None
    node = PrefixNode(data.tenant, data.hash, [-1] * data.blocks, data.end_blocks)
    node.holders = data.holders
    index._nodes.setdefault(data.tenant, {})[data.hash] = node
    if node.holders:
        index.held_blocks += data.blocks
    else:
        index.evictable_blocks += data.blocks
    return node


def _sequence(data: SequenceData, nodes: dict[int, PrefixNode], owner: object) -> Sequence:
    sequence = Sequence(data.request, owner=owner)
    for name, value in zip(_COPIED, data.fields, strict=True):
        setattr(sequence, name, value)
    sequence.blocks = [-1] * data.blocks
    sequence.nodes = tuple(nodes[key] for key in data.nodes)
    return sequence
