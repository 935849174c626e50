"""The length follows load and acceptance, costs nothing where drafts are wrong, and changes no output."""

from __future__ import annotations

from itertools import product
from random import Random
from typing import Any, cast

import pytest

from headway.api import simulate
from headway.core import (
    NS_PER_MS,
    InstanceView,
    Request,
    Sequence,
    Step,
    StepResult,
    Work,
    WorkDone,
)
from headway.errors import MissingCapabilityError
from headway.policies.speculation.smartspec import SmartSpec, _each, _uniform
from headway.policies.step_time_fit import StepTimeFit
from headway.reproductions.experiments.smartspec import NULL, _mean_e2e_ms
from headway.testing import Setup, run_sim, small_workload


def _times(
    draft: float, token: float, base: float, count: int, most: int
) -> list[tuple[float, float]]:
    return [
        (base + draft * k + token * (count + k), base + draft * k + token * count * (1 + k))
        for k in range(most + 1)
    ]


def _goodput(
    lengths: tuple[int, ...], chances: list[float], cost: tuple[float, float, float]
) -> float:
    draft, token, base = cost
    made = sum(sum(a**j for j in range(k + 1)) for k, a in zip(lengths, chances, strict=True))
    return made / (base + draft * max(lengths) + token * sum(k + 1 for k in lengths))


def test_lengths_per_request_are_those_of_brute_force() -> None:
    rng = Random(4)
    for _ in range(200):
        chances = [rng.uniform(0.0, 0.95) for _ in range(rng.randint(1, 4))]
        cost = rng.uniform(0, 2), rng.uniform(0, 3), rng.uniform(1, 20)
        times = _times(*cost, len(chances), 3)
        found = _goodput(tuple(_each(times, chances)), chances, cost)
        best = max(_goodput(k, chances, cost) for k in product(range(4), repeat=len(chances)))
        assert found == pytest.approx(best)


def test_the_length_rises_with_acceptance_and_falls_with_load() -> None:
    def length(acceptance: float, count: int) -> int:
        # Goodput of all: yields times `count` over the step's time; the same k is best.
        return _uniform(_times(1.0, 0.2, 20.0, count, 8), acceptance)

    by_acceptance = [length(a, 4) for a in (0.0, 0.3, 0.6, 0.8, 0.95)]
    assert by_acceptance == sorted(by_acceptance)
    assert by_acceptance[0] == 0 < by_acceptance[-1]
    by_load = [length(0.7, count) for count in (1, 8, 32, 128, 1024)]
    assert by_load == sorted(by_load, reverse=True)
    assert by_load[0] > by_load[-1] == 0


def _land(policy: SmartSpec, drafts: int, emitted: int, *, ended: bool = False) -> None:
    sequence = Sequence(Request(0, 0, 10, 100))
    work = Work(sequence, 1 + drafts, None, drafts)
    done = WorkDone(32, emitted, emitted, ended)
    policy.on_step(Step(0, "main", [work]), StepResult("done", [done], [1]))


def test_acceptance_counts_judged_drafts_only() -> None:
    policy = SmartSpec(weight=0.5)
    for _ in range(40):
        _land(policy, 3, 2)  # the first right, the second wrong, the third not judged
    assert policy.acceptance() == pytest.approx(0.5)
    before = policy.acceptance()
    _land(policy, 3, 1, ended=True)  # cut by the end of the output
    assert policy.acceptance() == before
    for _ in range(40):
        _land(policy, 3, 1)  # a drafter that finds nothing
    assert policy.acceptance() < 0.01


class _Blind:
    """A view of a world that predicts nothing, in which `cost` is the truth."""

    step_tokens, free_blocks, block_tokens = 4096, 1000, 16
    prefilling: tuple[Sequence, ...] = ()
    waiting: tuple[Sequence, ...] = ()
    now_ns = 0

    def step_time_ns(self, works: object) -> int:
        raise MissingCapabilityError("no")


@pytest.mark.parametrize(("token_ms", "long"), [(0.01, True), (5.0, False)])
def test_where_nothing_is_predicted_times_are_fitted(token_ms: float, *, long: bool) -> None:
    policy, view = SmartSpec(), _Blind()
    decoding = [Sequence(Request(n, 0, 50, 1000)) for n in range(8)]
    said = []
    for _ in range(100):
        drafts = policy.drafts(cast("InstanceView", view), decoding)
        assert isinstance(drafts, int)
        works = [Work(sequence, 1 + drafts, None, drafts) for sequence in decoding]
        view.now_ns += round((10 + token_ms * len(works) * (1 + drafts)) * NS_PER_MS)
        emitted = min(1 + drafts, 2)  # the first is right, the second is not
        done = [WorkDone(32, emitted, emitted) for _ in works]
        policy.on_step(Step(0, "main", works), StepResult("done", done, [view.now_ns]))
        said.append(drafts)
    late = said[40:]
    assert (
        min(late) >= 3 if long else sum(late) <= 2
    )  # one verified token costs as much as half a step


def test_a_fit_finds_the_costs() -> None:
    fit, rng = StepTimeFit(keep=1.0), Random(1)
    for _ in range(200):
        tokens, longest, context = rng.randint(1, 300), rng.randint(0, 6), rng.randint(0, 90_000)
        fit.learn(
            tokens, longest, context, 9_000_000 + 40_000 * tokens + 700_000 * longest + 30 * context
        )
    assert fit.time_ns(100, 3, 20_000) == pytest.approx(15_700_000, rel=0.01)
    assert fit.time_ns(10, 0, 0) == pytest.approx(9_400_000, rel=0.02)


def test_drafts_that_are_never_right_are_given_up_at_no_cost() -> None:
    ours = _mean_e2e_ms(0, speculation="smartspec", changes=NULL, rates=(2.0,))
    plain = _mean_e2e_ms(0, speculation="none", rates=(2.0,))
    assert ours < 1.05 * plain


def test_it_beats_none_at_low_load_and_stays_near_the_best_fixed_length_at_high() -> None:
    def e2e(speculation: str, rate: float, tokens: int = 1) -> float:
        options = {"fixed.tokens": tokens} if speculation == "fixed" else {}
        return _mean_e2e_ms(0, speculation=speculation, rates=(rate,), options=options)

    assert e2e("smartspec", 1.0) < 0.6 * e2e("none", 1.0)
    best = min(e2e("none", 40.0), *(e2e("fixed", 40.0, k) for k in (1, 3, 5)))
    assert e2e("smartspec", 40.0) < 1.1 * best


def test_it_never_stops_exploring() -> None:
    policy = SmartSpec(prior=0.0, explore=0.1)
    said = [policy._explored(-1, 0) for _ in range(100)]
    assert sum(said) == 10
    assert not any(SmartSpec(explore=0.0)._explored(-1, 0) for _ in range(100))


def test_it_is_asked_at_every_step_even_while_nothing_is_drafted() -> None:
    runs = [
        run_sim(
            small_workload(0, 20, 5.0),
            Setup(speculation=lambda: SmartSpec(prior=0.0, explore=0.2), leap=leap),
        )
        for leap in (True, False)
    ]
    assert runs[0].log.tokens == runs[1].log.tokens
    assert runs[0].log.ends_ns == runs[1].log.ends_ns


def test_equal_runs_are_equal_and_requests_can_have_their_own_lengths() -> None:
    def ends(**options: Any) -> list[int]:
        result = simulate(
            speculation="smartspec", acceptance=0.6, acceptance_spread=0.2, requests=30,
            draft_model="llama-3.2-1b", options=options,
        )  # fmt: skip
        return list(result.requests()["end_ns"].tolist())

    assert ends() == ends()
    assert ends(**{"smartspec.per_request": True}) == ends(**{"smartspec.per_request": True})
