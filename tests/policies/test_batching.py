"""The one behaviour that makes each batching policy that policy."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from headway.core import NS_PER_S, Request
from headway.policies.batching.prefill_first import PrefillFirst
from headway.policies.batching.sarathi import Sarathi
from headway.policies.batching.splitfuse import Splitfuse
from headway.testing import Run, Setup, SmallWorkload, StepTimes, run_sim
from headway.testing.policy_refs import PolicyRef
from headway.workload import Offered

DECODES = [Request(n, 0, 100, 60) for n in range(4)]
LONG = Request(9, NS_PER_S // 4, 4000, 2)


def run(batching: PolicyRef, *requests: Request) -> Run:
    offers = tuple(Offered(request, request.max_tokens) for request in requests)
    done = run_sim(SmallWorkload(offers), Setup(batching, leap=False))
    done.conserved()
    return done


def longest_gap_ns(done: Run, request_id: int) -> int:
    return max(after - before for before, after in pairwise(done.log.times_ns[request_id]))


def test_sarathi_never_stalls_a_decode_behind_a_prompt() -> None:
    done = run(partial(Sarathi, 256), *DECODES, LONG)
    budget_ns = StepTimes().base_ns + 256 * StepTimes().token_ns + 6000 * StepTimes().context_ns
    assert longest_gap_ns(done, 0) <= budget_ns
    assert max(step.tokens for step in done.log.steps) == 256


def test_prefill_first_stalls_decodes_for_a_whole_prompt_and_answers_it_sooner() -> None:
    eager, patient = run(PrefillFirst, *DECODES, LONG), run(partial(Sarathi, 256), *DECODES, LONG)
    whole_ns = StepTimes().chunk_time_ns(4000, 0)
    assert longest_gap_ns(eager, 0) > whole_ns
    assert eager.log.times_ns[9][0] < patient.log.times_ns[9][0]


def test_prefill_first_never_mixes_and_cuts_only_prompts_longer_than_its_budget() -> None:
    prompts = [Request(n, n, 700, 5) for n in range(6)]
    done = run(partial(PrefillFirst, 1500), *prompts, Request(9, 9, 2000, 5))
    prefills = [step.tokens for step in done.log.steps if step.tokens > step.members]
    # The first was alone; then two fit whole; the last is longer than any step, and goes in with what is left.
    assert prefills == [700, 1400, 1400, 1500, 1200]
    assert all(step.tokens in (step.members, *prefills) for step in done.log.steps)


def test_splitfuse_composes_passes_of_exactly_its_size() -> None:
    prompts = [Request(n, n, 600 + 17 * n, 4) for n in range(12)]
    done = run(partial(Splitfuse, 512), *prompts)
    total = sum(request.prompt_tokens for request in prompts)
    full = [step.tokens for step in done.log.steps[: total // 512]]
    assert set(full) == {512}


def test_splitfuse_finds_the_knee_of_the_saturation_curve() -> None:
    timed = Splitfuse()
    run(lambda: timed, Request(0, 0, 3000, 2))
    base, each = StepTimes().base_ns, StepTimes().token_ns
    best = 4096 / (base + 4096 * each)
    assert timed._found / (base + timed._found * each) >= 0.95 * best
    assert 128 < timed._found < 4096


def test_splitfuse_falls_back_where_nobody_predicts() -> None:
    blind = Splitfuse()

    class Unpredictable(Splitfuse):
        def plan(self, view):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            view._instance.timing = None
            return blind.plan(view)

    run(Unpredictable, Request(0, 0, 3000, 2))
    assert blind._found == 768


def test_at_most_so_many_sequences_run_at_once() -> None:
    requests = [Request(n, 0, 50, 20) for n in range(9)]
    for batching in (Sarathi, PrefillFirst, Splitfuse):
        done = run(partial(batching, max_num_seqs=3), *requests)
        assert max(step.members for step in done.log.steps) == 3


def test_a_flat_curve_needs_no_more_than_the_smallest_pass() -> None:
    flat = Splitfuse()
    offers = (Offered(Request(0, 0, 500, 2), 2),)
    run_sim(SmallWorkload(offers), Setup(lambda: flat, timing=StepTimes(0, 1000, 0)))
    assert flat._found == 128
