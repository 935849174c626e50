"""Does anything decide by what it cannot know yet? Two runs that agree up to a moment must decide alike up to it.

The runs have the same requests, answers, aborts and step times before the moment, and others from then on: other
arrivals, true lengths (of answers that are not complete by then), aborts and durations. Every answer of every policy
is written down with its time; those before the moment must be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from headway.core.plan import Step, Work
from headway.core.protocols import TimingModel
from headway.core.views import FleetView, InstanceView
from headway.runtime.loader import KINDS, METHOD
from headway.testing.policy_refs import PolicyRef, maker
from headway.testing.runs import Run, Setup, run_sim
from headway.testing.small_workload import SmallWorkload
from headway.workload import Offered

MOMENTS = 3  # that are tried of a run

Note = tuple[int, str, object]
"""(time in ns, kind of policy, what it answered)."""


@dataclass
class Journal:
    """What every policy of a run answered, and the present time as the last of them was told it."""

    notes: list[Note] = field(default_factory=list)
    now_ns: int = 0

    def before(self, moment_ns: int) -> list[Note]:
        """What was answered before a moment."""
        return [note for note in self.notes if note[0] < moment_ns]

    def spied(self, kind: str, policy: PolicyRef) -> Callable[[], Any]:
        """A maker of the same policies, whose answers are written down."""
        make = maker(kind, policy)

        def spied() -> Any:
            made = make()
            ask = getattr(made, METHOD[kind])
            setattr(made, METHOD[kind], lambda *given: self._noted(kind, ask, given))
            return made

        return spied

    def _noted(self, kind: str, ask: Callable[..., Any], given: Seq[Any]) -> Any:
        for seen in given:
            if hasattr(seen, "now_ns"):
                self.now_ns = seen.now_ns
        answer = ask(*given)
        if kind == "memory":
            answer = list(answer)
        if kind != "ordering":  # its keys show in the queues that a plan is made of
            self.notes.append((self.now_ns, kind, _plain(kind, answer, given)))
        return answer


class _Changing:
    """A timing model whose steps last longer from a moment on; what it predicts stays the same."""

    def __init__(self, timing: TimingModel, journal: Journal, moment_ns: int) -> None:
        self._timing, self._journal, self._moment_ns = timing, journal, moment_ns

    def __getattr__(self, name: str) -> Any:
        return getattr(self._timing, name)

    def durations_ns(self, step: Step, repeats: int) -> list[int]:
        times = self._timing.durations_ns(step, repeats)
        late = step.id and self._journal.now_ns >= self._moment_ns  # predictions have no id
        return [time * 3 // 2 for time in times] if late else times


def check_foresight(workload: SmallWorkload, setup: Setup, *, until_s: float) -> None:
    """Raise AssertionError with the first decision that depends on what comes after it."""
    arrivals = sorted(offer.request.arrival_ns for offer in workload.requests)
    one = Journal()
    run = _run(workload, setup, one, moment_ns=1 << 62, until_s=until_s)
    for share in range(1, MOMENTS + 1):
        moment_ns = arrivals[len(arrivals) * share // (MOMENTS + 1)]
        other = Journal()
        _run(another_future(workload, run, moment_ns), setup, other, moment_ns, until_s=until_s)
        left, right = one.before(moment_ns), other.before(moment_ns)
        for mine, yours in zip(left, right, strict=False):
            assert mine == yours, (
                f"it knows the future: at {mine[0] / 1e9:.4f} s the {mine[1]} policy decides otherwise when"
                f" what comes after {moment_ns / 1e9:.4f} s is changed"
            )
        assert len(left) == len(right), "it knows the future: it is asked more often in one of two"


def another_future(workload: SmallWorkload, run: Run, moment_ns: int) -> SmallWorkload:
    """The same up to a moment: later ones come later and have other prompts; open answers get other lengths."""
    rng, log = Random(moment_ns), run.log
    offers = []
    for offer in workload.requests:
        request, length = offer.request, offer.output_tokens
        if request.arrival_ns >= moment_ns:
            changed = replace(
                request,
                arrival_ns=request.arrival_ns + rng.randrange(1, 1_000_000_000),
                prompt_tokens=request.prompt_tokens + rng.randrange(200),
            )
            offers.append(Offered(changed, rng.randint(1, request.max_tokens)))
            continue
        if log.ends_ns.get(request.id, moment_ns) >= moment_ns and not request.stage.denoise_tokens:
            out = sum(time_ns < moment_ns for time_ns in log.times_ns[request.id])
            others = [n for n in range(out + 1, request.max_tokens + 1) if n != length]
            length = rng.choice(others) if others else length
        offers.append(Offered(request, length))
    aborts = {
        number: time_ns if time_ns < moment_ns else time_ns + rng.randrange(500_000_000)
        for number, time_ns in workload.aborts.items()
    }
    return replace(workload, requests=tuple(offers), aborts=aborts)


def _run(
    workload: SmallWorkload, setup: Setup, journal: Journal, moment_ns: int, *, until_s: float
) -> Run:
    spies: Any = {kind: journal.spied(kind, getattr(setup, kind)) for kind in KINDS}
    timing: Any = _Changing(setup.timing, journal, moment_ns)
    plain = replace(setup, leap=False, recorded=False, audited=False, timing=timing)
    return run_sim(workload, replace(plain, **spies), until_s=until_s)


def _plain(kind: str, answer: Any, given: Seq[Any]) -> object:
    """An answer without objects that belong to one run."""
    if kind == "batching":
        view: InstanceView = given[0]
        queues = tuple(tuple(s.id for s in queue) for queue in (view.waiting, view.running))
        works = tuple((lane, tuple(map(_work, works))) for lane, works in answer.work.items())
        shed = tuple(sequence.id for sequence in answer.shed)
        rest = (dict(answer.shares), answer.wake_at_ns, answer.steady, answer.nano_batches)
        return queues, works, shed, rest
    if kind == "memory":
        return tuple((sequence.id, how) for sequence, how in answer)
    if kind == "speculation":
        return answer if isinstance(answer, int) else tuple(answer)
    if kind in ("routing", "admission"):
        request, fleet = given
        return request.id, answer, _loads(fleet)
    return tuple(answer)


def _work(work: Work) -> tuple[object, ...]:
    return (work.sequence.id, *work[1:])


def _loads(view: FleetView) -> tuple[int, ...]:
    return tuple(view.load(name) for name in view.instances)
