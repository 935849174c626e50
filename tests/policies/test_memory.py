"""Whom to take blocks from, and how."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.core import Request, Sequence
from headway.policies.memory.recompute import Recompute
from headway.policies.memory.swap import Swap
from headway.testing import Run, Setup, SmallWorkload, run_sim, small_workload
from headway.workload import Offered


def crowded(memory: str, host_blocks: int | None = None) -> Run:
    """Four that fit when they start and not when they have grown."""
    offers = tuple(Offered(Request(n, n, 300, 300), 300) for n in range(4))
    run = run_sim(SmallWorkload(offers), Setup(memory=memory, blocks=100, host_blocks=host_blocks))
    run.conserved()
    return run


def decoding(number: int, blocks: int) -> Sequence:
    sequence = Sequence(Request(number, 0, 10, 5))
    sequence.blocks = list(range(blocks))
    sequence.computed_tokens, sequence.total_tokens, sequence.output_tokens = 10, 11, 1
    return sequence


@pytest.mark.parametrize(("policy", "how"), [(Recompute(), "recompute"), (Swap(), "swap_out")])
def test_victims_are_taken_in_the_order_given_until_there_is_room(
    policy: Recompute | Swap, how: str
) -> None:
    candidates = [decoding(n, 4) for n in range(5)]
    chosen = list(policy.victims(None, 6, candidates))  # type: ignore[arg-type]
    assert chosen == [(candidate, how) for candidate in candidates[:2]]
    assert not list(policy.victims(None, 0, candidates))  # type: ignore[arg-type]


def test_recompute_computes_again_and_swap_does_not() -> None:
    needed = 4 * (300 + 299)
    recomputed, swapped = crowded("recompute"), crowded("swap")
    assert recomputed.log.preemptions
    assert swapped.log.preemptions
    assert sum(recomputed.log.computed.values()) > needed
    assert sum(swapped.log.computed.values()) == needed


def test_the_oldest_is_never_preempted() -> None:
    for memory in ("recompute", "swap"):
        run = crowded(memory)
        assert min(run.log.ends_ns, key=lambda i: run.log.ends_ns[i]) == 0


def test_swap_falls_back_to_recompute_when_the_host_is_full() -> None:
    limited = crowded("swap", host_blocks=0)
    assert limited.log.tokens == crowded("recompute").log.tokens


def test_swap_drops_a_prompt_that_is_not_decoding_yet() -> None:
    prompt = Sequence(Request(0, 0, 100, 5))
    prompt.blocks = [1, 2]
    assert list(Swap().victims(None, 1, [prompt])) == [(prompt, "recompute")]  # type: ignore[arg-type]


def test_swap_of_a_sequence_with_rejected_drafts_balances_the_host() -> None:
    """Rejected drafts leave a block behind that holds no KV: it is not moved and not counted."""
    toy = Path(__file__).parents[1] / "conformance" / "toys" / "speculative.py"
    workload = small_workload(  # found by search: few draws have such a victim
        30, 20, 60.0, prompt_tokens=(5, 120), output_tokens=(4, 60), slack_tokens=0
    )
    run = run_sim(workload, Setup(toy, memory="swap", blocks=26))
    run.conserved()
    assert run.log.preemptions
