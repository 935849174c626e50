"""Synthetic workloads, labels and descriptions."""

from collections import Counter
from dataclasses import fields, replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from headway.core import NS_PER_S, Request, Sampling, Slo, Stage
from headway.core.fleet import FINISHED_OK
from headway.core.protocols import Workload
from headway.errors import OptionError
from headway.workload import (
    Constant,
    Fixed,
    Independent,
    Merged,
    Offered,
    Poisson,
    Sessions,
    SharedPrefixes,
    SloClasses,
    Synthetic,
    Tenants,
    Uniform,
    conversation_like,
    describe,
    mooncake_like,
)
from headway.workload.describe import gamma_shape
from headway.workload.offered import changed, salt_of, salted


def test_a_conversation_is_like_azures() -> None:
    told = describe(conversation_like(requests=20_000).offers())
    assert told.rate_rps == pytest.approx(5.53, rel=0.03)
    assert told.gap_cv == pytest.approx(1.09, rel=0.03)
    assert told.prompt_mean == pytest.approx(1155, rel=0.03)
    assert told.output_mean == pytest.approx(211, rel=0.03)
    assert told.reuse == 0


def test_long_prompts_share_as_much_as_mooncakes() -> None:
    told = describe(mooncake_like(requests=5000).offers())
    assert told.prompt_mean == pytest.approx(12_035, rel=0.05)
    assert told.prompt_p50 == pytest.approx(6909, rel=0.05)
    assert told.output_mean == pytest.approx(343, rel=0.05)
    assert told.reuse == pytest.approx(0.37, abs=0.03)


@settings(max_examples=30)
@given(st.integers(1, 5000), st.floats(0, 1), st.integers(1, 50), st.integers(0, 100))
def test_shared_prefixes_form_a_tree_and_cover_their_prompts(
    most: int, continues: float, window: int, seed: int
) -> None:
    shapes = Independent(Uniform(1, most), Fixed(5))
    workload = SharedPrefixes(Poisson(1.0), shapes, continues, window, requests=60, seed=seed)
    parents: dict[int, int | None] = {}
    partial: set[int] = set()
    for request, _ in workload.offers():
        assert sum(tokens for _, tokens in request.prefix) == request.prompt_tokens
        before = None
        for name, tokens in request.prefix:
            # A name stands for all before it: it always has the same predecessor.
            assert parents.setdefault(name, before) == before
            assert before not in partial
            before = name
            if tokens < 512:
                assert name not in partial
                partial.add(name)


@pytest.mark.parametrize(
    "workload",
    [
        conversation_like(seed=3),
        mooncake_like(seed=3),
        Sessions(Poisson(5.0), seed=3),
        Tenants.skewed(conversation_like(), 10),
        SloClasses(conversation_like(), [(Slo("a"), 1), (Slo("b"), 2)]),
        Merged([conversation_like(), mooncake_like()]),
    ],
    ids=lambda w: type(w).__name__,
)
def test_endless_workloads_stream_repeat_and_count_ids_up(workload: Workload) -> None:
    offers = list(islice(workload.offers(), 300))
    assert offers == list(islice(workload.offers(), 300))
    assert [o.request.id for o in offers] == list(range(300))
    arrivals = [o.request.arrival_ns for o in offers]
    assert arrivals == sorted(arrivals)
    assert all(1 <= o.output_tokens <= o.request.max_tokens for o in offers)


def test_another_rate_leaves_the_lengths() -> None:
    slow, fast = (list(conversation_like(rate, requests=50).offers()) for rate in (1.0, 100.0))
    assert [(o.request.prompt_tokens, o.output_tokens) for o in slow] == [
        (o.request.prompt_tokens, o.output_tokens) for o in fast
    ]


def test_tenants_and_classes_are_drawn_by_share_and_independently() -> None:
    source = Synthetic(Constant(1.0), Independent(Fixed(1), Fixed(1)), requests=30_000)
    chat, batch = Slo("chat", ttft_ns=NS_PER_S), Slo("batch")
    labelled = SloClasses(Tenants(source, {"x": 3, "y": 1}), [(chat, 1), (batch, 4)])
    seen = Counter((o.request.tenant, o.request.slo.name) for o in labelled.offers())
    for tenant, share in (("x", 0.75), ("y", 0.25)):
        assert seen[tenant, "chat"] == pytest.approx(30_000 * share * 0.2, rel=0.05)
        assert seen[tenant, "batch"] == pytest.approx(30_000 * share * 0.8, rel=0.05)
    first = next(labelled.offers()).request
    assert first.due_ns(0) == (NS_PER_S * 2 if first.slo is chat else None)


def test_skewed_tenants_follow_their_power_law() -> None:
    source = Synthetic(Constant(1.0), Independent(Fixed(1), Fixed(1)), requests=30_000)
    seen = Counter(o.request.tenant for o in Tenants.skewed(source, 4, skew=2.0).offers())
    total = 1 + 1 / 4 + 1 / 9 + 1 / 16
    for k in range(4):
        assert seen[f"t{k}"] == pytest.approx(30_000 / total / (k + 1) ** 2, rel=0.08)


def test_a_changed_request_keeps_every_other_field() -> None:
    request = Request(
        1, 2, 3, 4, Slo("s"), "t", 5, 6, 0.5, (Stage(units=3),), ((7, 2),), 8, (1, 2, 3), 0,
        Sampling(seed=9),
    )  # fmt: skip
    settable = [field.name for field in fields(Request) if field.init]
    defaults = Request(0, 0, 0, 0)
    assert all(getattr(request, name) != getattr(defaults, name) for name in settable)
    assert changed(request) == request
    other = {"id": 9, "arrival_ns": 9, "slo": Slo("z"), "tenant": "u", "session": 0}
    other |= {"prefix": (), "next_extent": 0}
    assert changed(request, **other) == replace(request, **other)  # type: ignore[arg-type]


@given(st.sets(st.integers(0, 2**40), min_size=1, max_size=50))
def test_salted_names_never_meet(names: set[int]) -> None:
    prefix = tuple((name, 1) for name in names)
    parts = [{name for name, _ in salted(prefix, salt_of(part))} for part in range(20)]
    assert parts[0] == names
    assert len(set().union(*parts)) == 20 * len(names)
    assert all(0 <= name < 2**63 for part in parts for name in part)


@pytest.mark.parametrize("shape", [0.05, 0.86, 3.0, 50.0])
def test_gamma_shape_finds_the_shape(shape: float) -> None:
    values = np.random.default_rng(1).gamma(shape, 2.0, 100_000)
    assert gamma_shape(values[values > 0]) == pytest.approx(shape, rel=0.05)


def test_describing_nothing_or_one_request_gives_no_numbers() -> None:
    nothing = describe([])
    assert nothing.requests == 0
    assert np.isnan(nothing.rate_rps)
    one = describe(conversation_like(requests=1).offers())
    assert (one.requests, one.span_s) == (1, 0.0)
    assert np.isnan(one.gap_cv)


def test_a_next_turn_finds_all_but_its_new_input_and_even_gaps_have_no_gamma_shape() -> None:
    first = Request(0, 0, 10, 64, prefix=((1, 10),), next_extent=2)
    second = Request(1, NS_PER_S, 40, 64, prefix=((1, 10), (2, 20), (3, 10)))
    third = Request(2, 2 * NS_PER_S, 1, 64)
    told = describe([Offered(first, 20), Offered(second, 5), Offered(third, 5)])
    assert told.reuse == pytest.approx(30 / 50)
    assert told.rate_rps == 1
    assert np.isnan(told.gap_gamma_shape)


def test_generators_are_open_loop() -> None:
    for workload in (conversation_like(), mooncake_like()):
        offer = next(workload.offers())
        assert workload.on_end(offer.request, FINISHED_OK, 5) == ()


@pytest.mark.parametrize(
    "build",
    [
        lambda: conversation_like(requests=-1),
        lambda: conversation_like(max_tokens=0),
        lambda: replace(mooncake_like(), continues=1.5),
        lambda: Tenants(conversation_like(), {}),
        lambda: Tenants(conversation_like(), {"a": -1, "b": 2}),
        lambda: SloClasses(conversation_like(), [(Slo(), 0)]),
    ],
)
def test_impossible_workloads_are_refused(build: object) -> None:
    with pytest.raises(OptionError):
        build()  # type: ignore[operator]
