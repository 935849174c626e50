"""What one instance answers to those who move sequences, and the narrowest races of a move."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from headway.clocks import VirtualClock
from headway.core import NS_PER_MS, Request
from headway.core.fleet import DECODE, NEVER, PREFILL, Handoff
from headway.core.protocols import ARRIVAL
from headway.policies.admission.unbounded import Unbounded
from headway.policies.batching.sarathi import Sarathi
from headway.policies.memory.recompute import Recompute
from headway.policies.ordering.fcfs import Fcfs
from headway.policies.routing.distserve import DistServe
from headway.runtime import Fleet, Instance, InstanceOptions, LocalPort
from headway.sim import Lengths, Timed
from headway.testing import Log, StepTimes, audit


class Bench:
    """Instances behind local ports, without a fleet."""

    def __init__(self, *options: InstanceOptions) -> None:
        self.clock, self.log = VirtualClock(), Log(audited=True)
        self.lengths = Lengths({}, StepTimes().layers)
        self.ports: list[LocalPort] = [LocalPort(self.clock, self.log) for _ in options]
        for port, mine in zip(self.ports, options, strict=True):
            executor = Timed(self.clock, StepTimes(), self.lengths)
            made = (Sarathi(), Fcfs(), Recompute())
            port.instance = Instance(self.clock, executor, made, mine, port)

    def submit(self, request: Request) -> None:
        self.lengths.output_tokens[request.id] = request.max_tokens
        self.ports[0].submit(request, lambda _: None)


def handed(request: Request, blocks: int = 40) -> Handoff:
    tokens = request.prompt_tokens
    return Handoff(request.id, tokens + 1, tokens, 1, blocks, 5, 5)


def test_decode_accepts_while_little_is_on_its_way_in() -> None:
    bench = Bench(InstanceOptions(1000, role=DECODE))
    port, answers = bench.ports[0], list[tuple[int, str | None]]()
    for n in range(
        3
    ):  # 40 blocks each, of which 50 may be on their way before the next is asked for
        request = Request(n, 0, 640, 50)
        port.import_from(request, handed(request), "i9", lambda why, n=n: answers.append((n, why)))  # type: ignore[misc]
    assert answers == [(2, "80 KV blocks are on their way in: try another instance or later")]
    audit(port.instance)
    bench.clock.run()
    assert [n for n, why in answers if why is None] == [0, 1]
    port.ask_import(Request(7, 0, 640, 50), lambda why: answers.append((7, why)))
    assert answers[-1][1] is not None, "what came and is not committed is on its way still"
    for n in range(2):
        port.end_import(n, commit=False)
    assert port.instance.pool.free == 1000
    port.ask_import(Request(7, 0, 640, 50), lambda why: answers.append((7, why)))
    assert answers[-1] == (7, None)


def test_what_never_fits_is_refused_for_good() -> None:
    bench, why = Bench(InstanceOptions(10, role=DECODE)), list[str | None]()
    bench.ports[0].ask_import(Request(0, 0, 640, 50), why.append)
    assert str(why[0]).startswith(NEVER)


def test_a_preemption_between_two_stages_ends_the_migration() -> None:
    bench, parts = Bench(InstanceOptions(1000, last_stage_blocks=2)), list[Handoff | None]()
    bench.submit(Request(0, 0, 400, 500))
    bench.clock.run(500 * NS_PER_MS)
    port = bench.ports[0]
    port.export_to(0, "i9", parts.append)
    bench.clock.run(501 * NS_PER_MS)
    stage = parts[0]
    assert stage is not None
    assert (stage.last, stage.first, stage.blocks) == (False, 0, stage.computed_tokens // 16)
    port.instance.sequences[0].preemptions += 1
    port.export_to(0, "i9", parts.append)
    assert parts[1:] == [None]
    bench.clock.run(3600_000 * NS_PER_MS)
    assert bench.log.ends == {0: "finished"}


class LateGone(LocalPort):
    """Its `gone` is on the way for a while, and meanwhile the client gives up."""

    abort_then: Callable[[int], None]

    def end_export(self, request_id: int, reply: Callable[[bool], None], *, gone: bool) -> None:
        was_here = self.instance.moving.end_export(request_id, gone=gone)
        now_ns = self._clock.now_ns()
        self._clock.call_at(now_ns + NS_PER_MS, partial(self.abort_then, request_id))
        self._clock.call_at(now_ns + 2 * NS_PER_MS, partial(reply, was_here))


def test_an_abort_while_nobody_owns_the_sequence_reaches_the_new_owner() -> None:
    bench, ends = Bench(), dict[int, str]()
    clock, log = bench.clock, bench.log
    ports: dict[str, LocalPort] = {"i0": LateGone(clock, log), "i1": LocalPort(clock, log)}
    for n, (port, role) in enumerate(zip(ports.values(), (PREFILL, DECODE), strict=True)):
        options = InstanceOptions(300, key=n, name=f"i{n}", role=role)
        made = (Sarathi(), Fcfs(), Recompute())
        executor = Timed(clock, StepTimes(), bench.lengths)
        port.instance = Instance(clock, executor, made, options, port)
    fleet = Fleet(
        clock,
        ports,
        (Unbounded(), DistServe()),
        lambda request, outcome: ends.update({request.id: outcome}),
        roles={"i0": PREFILL, "i1": DECODE},
    )
    for port in ports.values():
        port.ended = fleet.ended
    first = ports["i0"]
    assert isinstance(first, LateGone)
    first.abort_then = fleet.abort
    bench.lengths.output_tokens[0] = 400
    clock.call_at(0, partial(fleet.submit, Request(0, 0, 400, 400)), ARRIVAL, 0)
    clock.run()
    assert ends == log.ends == {0: "aborted"}
    assert len(log.times_ns[0]) == 1
    assert [port.instance.pool.free for port in ports.values()] == [300, 300]
