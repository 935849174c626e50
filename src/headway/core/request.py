"""What a client asks, and what it was promised. Immutable. Times are integer nanoseconds."""

from __future__ import annotations

from dataclasses import dataclass, field

from headway.core.sampling import GREEDY, Sampling

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

PrefixExtent = tuple[int, int]
"""(hash, tokens): a run of prompt tokens named by its content and everything before it."""


@dataclass(frozen=True, slots=True)
class Slo:
    """Latency targets of a request; None means not promised. `name` is the SLO class it belongs to.

    A request attains its SLO when it meets every target that is set.
    """

    name: str = "default"
    ttft_ns: int | None = None  # arrival to first output token
    tpot_ns: int | None = None  # (last - first) / (output tokens - 1)
    itl_p99_ns: int | None = None  # p99 over the request's own gaps between tokens
    e2e_ns: int | None = None  # arrival to last token
    deadline_ns: int | None = None  # after arrival; nothing after it is worth anything
    late_permille: int | None = (
        None  # most units, per mille, that may come after their own due time
    )

    @property
    def promises(self) -> bool:
        """Is any target set?"""
        return any(
            target is not None
            for target in (
                self.ttft_ns,
                self.tpot_ns,
                self.itl_p99_ns,
                self.e2e_ns,
                self.deadline_ns,
                self.late_permille,
            )
        )


NO_SLO = Slo()


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a request that produces units, each with a due time.

    Due time of unit k (0 = first), after arrival, the earliest that applies: `first_ns + k·each_ns`;
    `deadline_ns` for all units; or, when periodic, `(k + 1)·period_ns`.
    """

    unit: str = "token"  # token; later frame, action chunk
    units: int | None = None  # None: until the model stops
    first_ns: int | None = None
    each_ns: int | None = None
    deadline_ns: int | None = None
    period_ns: int = 0  # > 0: unit k is released at k·period after arrival, not before
    unit_tokens: int = 0  # input tokens that arrive with every later unit of a periodic stage
    denoise_tokens: int = 0  # > 0: a diffusion model makes so many tokens at once (a span) ...
    denoise_steps: int = 1  # ... in so many steps,
    refresh_steps: int = 1  # ... of which the first compute prompt and answer anew

    def due_ns(self, unit: int) -> int | None:
        """When unit `unit` is due after arrival; None when nothing was promised."""
        if self.period_ns:
            return (unit + 1) * self.period_ns
        due = self.deadline_ns
        if self.first_ns is not None:
            by_pace = self.first_ns + unit * (self.each_ns or 0)
            if unit == 0 or self.each_ns is not None:
                due = by_pace if due is None else min(due, by_pace)
        return due


@dataclass(frozen=True, slots=True)
class Request:
    """One client call. It has no true output length: only a simulated executor knows that.

    `prefix` covers the prompt's leading tokens in order, at the granularity of whoever made it; each hash
    names the tokens of its extent *and* all before. `next_extent` is the hash under which prompt and
    output together continue (the next turn of a session asks for it); a server cannot know it, and names blocks
    instead. `session` is a number for the conversation or user, made by whoever made the request.
    """

    id: int
    arrival_ns: int
    prompt_tokens: int
    max_tokens: int
    slo: Slo = NO_SLO
    tenant: str = ""
    session: int | None = None
    workflow: int | None = None
    quality_floor: float | None = (
        None  # least quality that is worth having, in the variant table's unit
    )
    stages: tuple[Stage, ...] = ()  # empty: prefill and decode, due by the SLO
    prefix: tuple[PrefixExtent, ...] = ()
    next_extent: int | None = None
    prompt_ids: tuple[int, ...] | None = None  # live worlds only
    supersedes: int | None = None  # id of an earlier request that this one replaces (barge-in)
    sampling: Sampling = GREEDY  # live worlds only
    stage: Stage = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Resolve the first stage once: due times are read often."""
        stage = self.stages[0] if self.stages else _stage_of(self.slo)
        object.__setattr__(self, "stage", stage)

    @property
    def period_ns(self) -> int:
        """Period of a periodic stream, else 0."""
        return self.stage.period_ns

    def due_ns(self, unit: int) -> int | None:
        """When output unit `unit` (0 = first) is due, in absolute time; None when nothing was promised."""
        due = self.stage.due_ns(unit)
        return None if due is None else self.arrival_ns + due


_STAGES: dict[
    int, tuple[Slo, Stage]
] = {}  # one Stage per Slo object: workloads share a few of them


def _stage_of(slo: Slo) -> Stage:
    known = _STAGES.get(id(slo))
    if known is not None and known[0] is slo:
        return known[1]
    ends = [end for end in (slo.e2e_ns, slo.deadline_ns) if end is not None]
    stage = Stage(
        first_ns=slo.ttft_ns,
        each_ns=slo.tpot_ns,
        deadline_ns=min(ends) if ends else None,
    )
    if len(_STAGES) > 256:
        _STAGES.clear()
    _STAGES[id(slo)] = (slo, stage)
    return stage
