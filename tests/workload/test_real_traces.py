"""Facts of the public traces, where they lie beside the checkout."""

from pathlib import Path

import pytest

from headway.workload import describe, open_trace

TRACES = Path(__file__).parents[3] / "shared" / "traces"
AZURE = TRACES / "azure_llm_2023_conv.csv"
MOONCAKE = TRACES / "mooncake_conversation.jsonl"


@pytest.mark.skipif(not AZURE.exists(), reason="the Azure trace is not here")
def test_azure_2023_conversations() -> None:
    trace = open_trace(AZURE)
    told = describe(trace.offers())
    assert (told.requests, trace.skipped) == (19_366, 0)
    assert told.span_s == pytest.approx(3502, abs=1)
    assert told.rate_rps == pytest.approx(5.53, abs=0.005)
    assert told.gap_cv == pytest.approx(1.09, abs=0.005)
    assert told.gap_gamma_shape == pytest.approx(0.86, abs=0.02)
    assert told.prompt_mean == pytest.approx(1155, abs=1)
    assert told.prompt_p50 == 1020
    assert told.prompt_p99 == pytest.approx(4142, abs=1)
    assert told.output_mean == pytest.approx(211, abs=1)
    assert told.output_p50 == 129
    assert told.output_p99 == pytest.approx(601, abs=1)


@pytest.mark.skipif(not MOONCAKE.exists(), reason="the Mooncake trace is not here")
def test_mooncake_conversations() -> None:
    told = describe(open_trace(MOONCAKE).offers())
    assert told.requests == 12_031
    assert told.span_s == pytest.approx(3537, abs=0.01)
    assert told.prompt_mean == pytest.approx(12_035, abs=1)
    assert told.prompt_p50 == 6909
    assert told.output_mean == pytest.approx(343, abs=1)
    hits = blocks = 0
    seen: set[int] = set()
    for request, _ in open_trace(MOONCAKE).offers():
        assert sum(tokens for _, tokens in request.prefix) == request.prompt_tokens
        names = {name for name, _ in request.prefix}
        hits += len(names & seen)
        blocks += len(request.prefix)
        seen |= names
    assert hits / blocks == pytest.approx(0.366, abs=0.001)


@pytest.mark.skipif(not MOONCAKE.exists(), reason="the Mooncake trace is not here")
def test_a_second_lap_of_mooncake_hits_everything_only_when_reused() -> None:
    once = describe(open_trace(MOONCAKE).offers()).reuse
    fresh = describe(open_trace(MOONCAKE, loop=True, requests=24_062).offers()).reuse
    reused = describe(open_trace(MOONCAKE, loop_reuse=True, requests=24_062).offers()).reuse
    assert fresh == pytest.approx(once, abs=1e-9)
    assert reused == pytest.approx((once + 1) / 2, abs=1e-9)
