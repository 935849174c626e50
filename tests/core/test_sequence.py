"""What a policy reads off a sequence."""

from __future__ import annotations

import pytest

from headway.core import Request, Sequence, Slo
from headway.errors import MissingExtraError, UnknownNameError


def test_a_new_sequence_is_all_prefill() -> None:
    sequence = Sequence(Request(3, 0, 10, 5))
    assert (sequence.remaining_tokens, sequence.in_prefill) == (10, True)
    assert (sequence.decode.sequence, sequence.decode.tokens) == (sequence, 1)
    assert repr(sequence) == "<Sequence 3 waiting 0/10>"


@pytest.mark.parametrize(
    ("computed", "output", "total", "in_prefill"),
    [
        (0, 0, 10, True),
        (9, 0, 10, True),  # the last prompt token: what it samples is the first output
        (10, 1, 11, False),
        (0, 3, 13, True),  # preempted: prompt and old output are input again
        (12, 3, 13, False),
        (11, 3, 13, True),
    ],
)
def test_prefill_ends_when_one_token_is_left_and_output_has_begun(
    computed: int, output: int, total: int, *, in_prefill: bool
) -> None:
    sequence = Sequence(Request(0, 0, 10, 5))
    sequence.computed_tokens, sequence.output_tokens, sequence.total_tokens = (
        computed,
        output,
        total,
    )
    assert sequence.in_prefill is in_prefill


def test_what_is_in_flight_counts_as_done() -> None:
    sequence = Sequence(Request(0, 0, 10, 5))
    sequence.pending_tokens, sequence.pending_output = 10, 1
    assert (sequence.remaining_tokens, sequence.in_prefill) == (1, False)


def test_the_next_unit_sets_the_due_time() -> None:
    sequence = Sequence(Request(0, 1000, 10, 5, Slo(ttft_ns=100, tpot_ns=10)))
    assert sequence.due_ns == 1100
    sequence.output_tokens = 3
    assert sequence.due_ns == 1130


def test_unknown_names_come_with_the_nearest_or_with_all() -> None:
    near = UnknownNameError.among("batching policy", "sarati", ["sarathi", "splitfuse"])
    assert str(near) == "unknown batching policy 'sarati': did you mean sarathi?"
    far = UnknownNameError.among("device", "abacus", ["h100", "a100"])
    assert str(far) == "unknown device 'abacus': known: a100, h100"


def test_a_missing_package_comes_with_its_extra() -> None:
    error = MissingExtraError.of("the live world", "torch", "engine")
    assert str(error) == "the live world needs torch: pip install 'headway[engine]'"
