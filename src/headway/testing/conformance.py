"""Does a policy keep the promises that every policy makes? One check a kind, in virtual and in real time.

Each check takes a class, any maker of policy objects, a shipped name, `pkg.mod:Class` or a file, runs it over small
random workloads, and raises AssertionError with a sentence that names the policy and the broken promise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence as Seq
from contextlib import contextmanager
from dataclasses import replace

from headway.core.fleet import ABORTED, FINISHED_OK, REJECTED
from headway.errors import UnknownNameError
from headway.runtime.loader import KINDS
from headway.testing.checked_policies import (
    CheckedAdmission,
    CheckedMemory,
    CheckedOrdering,
    CheckedRouting,
)
from headway.testing.foresight import check_foresight
from headway.testing.policy_refs import PolicyRef, maker
from headway.testing.replay import PlanData, replay
from headway.testing.runs import Run, Setup, run_live, run_sim
from headway.testing.small_workload import SmallWorkload, small_workload

SEEDS = range(2)
ROOMY, TIGHT = 20_000, 130  # KV blocks: enough for all, and hardly enough for two
SPEEDUP = 40.0  # of the real-time runs
_END_S = 600.0  # of virtual time: a run that takes longer does not end


def check_policy(kind: str, policy: PolicyRef) -> None:
    """Check a policy of any kind."""
    checks: dict[str, Callable[[PolicyRef], None]] = {
        "batching": check_batching,
        "ordering": check_ordering,
        "memory": check_memory,
        "speculation": check_speculation,
        "routing": check_routing,
        "admission": check_admission,
        "control": check_control,
    }
    if kind not in checks:
        raise UnknownNameError.among("policy kind", kind, KINDS)
    checks[kind](policy)


def check_batching(
    policy: PolicyRef,
    *,
    ordering: PolicyRef = "fcfs",
    memory: PolicyRef = "recompute",
    may_wait: bool = False,
    seeds: Iterable[int] = SEEDS,
    live: bool = True,
) -> None:
    """Conservation, budget, work conservation (unless `may_wait`), termination under memory pressure,
    determinism, read-only views, leap equals step, equal plans for equal views and pasts; then in real time.

    A policy that waits by design says so: `waits = True`.
    """
    may_wait = may_wait or bool(getattr(maker("batching", policy)(), "waits", False))
    base = Setup(policy, ordering, memory, recorded=True)
    for workload, setup in _pairs(base, seeds):
        with _blaming(policy, setup):
            _check_batching(workload, setup, may_wait=may_wait)
    _check_foresight(base, policy)
    if live:
        _check_live(replace(base, blocks=TIGHT), policy)


def _check_batching(workload: SmallWorkload, setup: Setup, *, may_wait: bool) -> None:
    run = _run(workload, setup)
    recording = run.recordings[0]
    assert may_wait or not recording.idle_plans, (
        f"{recording.idle_plans} times it planned nothing although work could run"
    )
    fresh, memory = maker("batching", setup.batching)(), maker("memory", setup.memory)()
    replay(recording, fresh, memory)
    _same(run, _run(workload, setup), "it is not deterministic: two equal runs differ")
    if any(isinstance(c.decision, PlanData) and c.decision.steady for c in recording.calls):
        stepped = _run(workload, replace(setup, leap=False))
        _same(run, stepped, "it says steady but is not: leaping changes the times of tokens")


def check_ordering(policy: PolicyRef, *, seeds: Iterable[int] = SEEDS, live: bool = True) -> None:
    """Keys are total, pure and, unless `dynamic`, constant; then as part of an instance."""
    complaints: list[str] = []
    base = Setup(
        "sarathi", lambda: CheckedOrdering(maker("ordering", policy)(), complaints), recorded=True
    )
    for memory in ("recompute", "swap"):
        for workload, setup in _pairs(replace(base, memory=memory), seeds):
            with _blaming(policy, setup, complaints):
                _check_batching(workload, setup, may_wait=False)
    _check_foresight(replace(base, ordering=policy, memory="swap"), policy)
    if live:
        _check_live(replace(base, blocks=TIGHT), policy, complaints)


def check_memory(policy: PolicyRef, *, seeds: Iterable[int] = SEEDS, live: bool = True) -> None:
    """Chooses among its candidates, each once, in a known way; everything ends under pressure."""
    complaints: list[str] = []
    base = Setup(
        "sarathi",
        memory=lambda: CheckedMemory(maker("memory", policy)(), complaints),
        recorded=True,
    )
    for batching, host_blocks in (("sarathi", None), ("prefill_first", 20)):
        limited = replace(base, batching=batching, host_blocks=host_blocks)
        for workload, setup in _pairs(limited, seeds):
            with _blaming(policy, setup, complaints):
                _check_batching(workload, setup, may_wait=False)
    _check_foresight(replace(base, memory=policy), policy)
    if live:
        _check_live(replace(base, blocks=TIGHT), policy, complaints)


def check_speculation(
    policy: PolicyRef, *, seeds: Iterable[int] = SEEDS, live: bool = True
) -> None:
    """Conservation with drafts accepted and refused, determinism, and termination under memory pressure."""
    base = Setup("sarathi", speculation=policy)
    for workload, setup in _pairs(base, seeds):
        with _blaming(policy, setup):
            run = _run(workload, setup)
            _same(run, _run(workload, setup), "it is not deterministic: two equal runs differ")
    _check_foresight(base, policy)
    if live:
        _check_live(replace(base, blocks=TIGHT), policy)


def check_control(policy: PolicyRef, *, seeds: Iterable[int] = SEEDS, live: bool = True) -> None:
    """Whatever it asks for, every request ends once and no block is lost; equal runs are equal."""
    base = Setup(control=policy, instances=3, report_interval_ns=50_000_003)
    _check_fleet(base, policy, seeds, (), live=live)
    _check_foresight(base, policy)


def check_routing(policy: PolicyRef, *, seeds: Iterable[int] = SEEDS, live: bool = True) -> None:
    """Routes to instances that exist, changes nothing it is shown, and decides the same with equal seeds."""
    complaints: list[str] = []
    base = Setup(
        routing=lambda: CheckedRouting(maker("routing", policy)(), complaints),
        instances=3,
        report_interval_ns=50_000_003,
    )
    _check_fleet(base, policy, seeds, complaints, live=live)
    _check_foresight(replace(base, routing=policy), policy)


def check_admission(policy: PolicyRef, *, seeds: Iterable[int] = SEEDS, live: bool = True) -> None:
    """Accepts or gives a reason, changes nothing it is shown, and decides the same with equal seeds."""
    complaints: list[str] = []
    base = Setup(
        admission=lambda: CheckedAdmission(maker("admission", policy)(), complaints), instances=2
    )
    _check_fleet(base, policy, seeds, complaints, live=live)
    _check_foresight(replace(base, admission=policy), policy)


def _check_fleet(
    base: Setup, policy: PolicyRef, seeds: Iterable[int], complaints: Seq[str], *, live: bool
) -> None:
    for workload, setup in _pairs(base, seeds):
        with _blaming(policy, setup, complaints):
            run = _run(workload, setup)
            _same(run, _run(workload, setup), "it is not deterministic: two equal runs differ")
            stepped = _run(workload, replace(setup, leap=False))
            _same(run, stepped, "it depends on how the simulator leaps")
    if live:
        _check_live(replace(base, blocks=TIGHT), policy, complaints)


def _check_foresight(base: Setup, policy: PolicyRef) -> None:
    """With enough memory, and where answers outgrow it; their caps say little of their lengths."""
    calm = small_workload(
        0, 40, 12.0, streams=3, abort_share=0.2, prefixes=True, turns=1, tenants=2, slack_tokens=150
    )
    short, long = (20, 120), (5, 150)
    wild = small_workload(
        1, 40, 30.0, prompt_tokens=short, output_tokens=long, abort_share=0.2, slack_tokens=150
    )
    for workload, blocks in ((calm, ROOMY), (wild, TIGHT // 2)):
        setup = replace(base, blocks=blocks, seed=3)
        with _blaming(policy, setup):
            check_foresight(workload, setup, until_s=_END_S)
    if getattr(maker("batching", base.batching)(), "denoises", False):
        denoised = small_workload(0, 30, 12.0, slack_tokens=0).denoised()
        with _blaming(policy, base):
            check_foresight(denoised, base, until_s=_END_S)


# -- runs ----------------------------------------------------------------------------------------------------


def _pairs(base: Setup, seeds: Iterable[int]) -> Iterator[tuple[SmallWorkload, Setup]]:
    """Workloads and pools: each seed plain in a roomy pool, and with everything at once in a tight one."""
    for seed in seeds:
        calm = small_workload(seed, 30, abort_share=0.1, tenants=2)
        yield calm, replace(base, blocks=ROOMY, seed=seed)
        wild = small_workload(
            seed, 40, 12.0, streams=3, abort_share=0.2, prefixes=True, turns=1, tenants=2
        )
        yield wild, replace(base, blocks=TIGHT, seed=seed)


def _run(workload: SmallWorkload, setup: Setup) -> Run:
    run = run_sim(workload, setup, until_s=_END_S)
    assert not run.stopped, run.stopped
    _all_asked(run)
    assert len(run.log.ends) == len(run.offered), (
        f"{len(run.offered) - len(run.log.ends)} requests never end: it makes no progress"
        " when memory is short"
    )
    _conserved(run)
    return run


def _all_asked(run: Run) -> None:
    """A fleet goes on without a control policy that failed: here it must not pass unnoticed."""
    wrong = run.fleet.control_error or run.fleet.moves.hand_over_error
    assert not wrong, wrong


def _conserved(run: Run) -> None:
    run.conserved()
    for request_id, outcome in run.log.ends.items():
        allowed = outcome in (FINISHED_OK, "shed") or outcome.startswith(REJECTED)
        allowed |= outcome == ABORTED
        assert allowed, f"request {request_id} ended as {outcome!r}"


def _check_live(setup: Setup, policy: PolicyRef, complaints: Seq[str] = ()) -> None:
    """In real time, on an executor that computes nothing."""
    workload = small_workload(
        5, 30, 12.0, streams=2, abort_share=0.1, prefixes=True, turns=1, tenants=2
    )
    with _blaming(policy, setup, complaints, "in real time"):
        run = run_live(workload, setup, speedup=SPEEDUP)
        assert not run.stopped, run.stopped
        _all_asked(run)
        _conserved(run)
        for recording in run.recordings:
            fresh = maker("batching", setup.batching)()
            replay(recording, fresh, maker("memory", setup.memory)())


def _same(one: Run, other: Run, why: str) -> None:
    for what in ("tokens", "ends", "ends_ns"):
        left, right = getattr(one.log, what), getattr(other.log, what)
        if left == right:
            continue
        request_id = min(i for i in left.keys() | right.keys() if left.get(i) != right.get(i))
        raise AssertionError(f"{why} ({what} of request {request_id})")


@contextmanager
def _blaming(
    policy: PolicyRef, setup: Setup, complaints: Seq[str] = (), world: str = "simulated"
) -> Iterator[None]:
    """Put the policy's name and the run's essentials before what went wrong; complaints come first."""
    name = getattr(policy, "__name__", None) or str(policy)
    where = f"{world}, {setup.blocks} KV blocks, seed {setup.seed}"
    try:
        yield
    except (AssertionError, TimeoutError) as error:
        why = complaints[0] if complaints else str(error) or type(error).__name__
        raise AssertionError(f"{name}: {why} ({where})") from error
    if complaints:
        raise AssertionError(f"{name}: {complaints[0]} ({where})")
