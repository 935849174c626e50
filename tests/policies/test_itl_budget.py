"""A budget derived from an ITL target: never late, and no smaller than it need be."""

from hypothesis import given, settings, strategies as st

from headway.api import simulate


@given(st.sampled_from([40.0, 60.0, 90.0]), st.sampled_from(["sarathi", "splitfuse"]))
@settings(max_examples=4, deadline=None)
def test_gaps_keep_the_target(target_ms: float, batching: str) -> None:
    run = simulate(
        batching=batching, model="llama-3.1-8b", gpu="a100", requests=60, rate_rps=3.0,
        options={f"{batching}.itl_target_ms": target_ms},
    )  # fmt: skip
    assert run.summary["p99_itl_ms"] <= target_ms


def test_a_loose_target_changes_nothing() -> None:
    def ttft(**options: float) -> float:
        result = simulate(requests=60, rate_rps=3.0, options=options)
        return float(result.summary["mean_ttft_ms"])

    assert ttft(**{"sarathi.itl_target_ms": 1e6}) == ttft()
    assert ttft(**{"sarathi.itl_target_ms": 12.0}) > ttft()
