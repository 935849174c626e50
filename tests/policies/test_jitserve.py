"""Places go to those who can still keep what they were promised, and siblings count as one."""

from __future__ import annotations

import pytest

from headway.api import simulate
from headway.core import NS_PER_S, Request, Sequence, Slo
from headway.core.fleet import ABORTED, FINISHED_OK
from headway.policies.batching.jitserve import Jitserve
from headway.policies.output_lengths import OutputLengths
from headway.testing import Setup, run_sim, small_workload
from headway.workload import Fixed, Independent, Listed, Offered, Poisson, Synthetic

SOON, LATE, HOPELESS = (Slo(str(s), e2e_ns=int(s * NS_PER_S)) for s in (4, 60, 0.5))


def _sequence(number: int = 0, out: int = 0, **fields: object) -> Sequence:
    sequence = Sequence(Request(number, 0, 100, 4096, **fields))  # type: ignore[arg-type]
    sequence.output_tokens = out
    return sequence


def test_a_place_goes_to_who_can_keep_a_promise() -> None:
    """One place: the request that cannot be in time comes last, though it came first."""
    slos = (HOPELESS, HOPELESS, SOON)
    offers = [Offered(Request(n, n, 100, 4096, slo=slo), 100) for n, slo in enumerate(slos)]
    for batching, right in (("jitserve", True), ("sarathi", False)):
        options = {"jitserve.batch": 1, "jitserve.expected_output": 100, "sarathi.max_num_seqs": 1}
        options = {name: value for name, value in options.items() if name.startswith(batching)}
        columns = simulate(
            batching=batching, workload=Listed(offers), options=options, gpu="a100"
        ).requests()
        ends = dict(zip(columns["id"].tolist(), columns["end_ns"].tolist(), strict=True))
        assert (ends[2] < ends[1]) == right


def test_everybody_runs_while_there_are_places() -> None:
    """The null: nobody is left out, so it is chunked prefill."""
    shapes = Independent(Fixed(300), Fixed(100))
    workload = Synthetic(Poisson(4.0), shapes, 60)
    ours = simulate(batching="jitserve", workload=workload).summary
    theirs = simulate(batching="sarathi", workload=workload).summary
    assert ours["mean_e2el_ms"] == pytest.approx(theirs["mean_e2el_ms"], rel=0.01)


def test_siblings_share_a_density() -> None:
    policy = Jitserve()
    alone, one, other = _sequence(0), _sequence(1, workflow=7), _sequence(2, 200, workflow=7)
    density = policy._densities(0, [alone, one, other])
    assert density[1] == density[2] > density[0]


def test_neighbours_in_length_get_the_places() -> None:
    """Of the pool, the window with most density: here two that are short, and not the best one."""
    policy = Jitserve(batch=2, pool_factor=2.0)
    everybody = {n: _sequence(n) for n in range(4)}
    for number, tokens in enumerate((1000, 10, 20, 500)):
        everybody[number].total_tokens = tokens
    policy._densities = lambda *_: {0: 5.0, 1: 4.0, 2: 4.0, 3: 1.0}  # type: ignore[method-assign]
    policy._choose(0, everybody)
    assert policy._wanted == {1, 2}


def test_few_places_change_hands_at_once() -> None:
    policy = Jitserve(batch=4, swaps=2)
    everybody = {n: _sequence(n) for n in range(8)}
    policy._active, policy._wanted = [0, 1, 2, 3], {4, 5, 6, 7}
    policy._density = {n: float(n) for n in range(8)}
    policy._give_places(0, everybody)
    assert policy._active == [7, 6, 2, 3]


def test_the_bound_sharpens_as_tokens_come() -> None:
    lengths = OutputLengths(prior=50)
    assert lengths.quantile(_sequence(), 0.9) == 50
    for tokens in (*range(10, 110, 10), 400):
        lengths.learn(_sequence(out=tokens), FINISHED_OK)
    lengths.learn(_sequence(out=4000), ABORTED)
    assert lengths.quantile(_sequence(), 0.5) == 60
    assert lengths.quantile(_sequence(out=75), 0.5) == 100
    assert lengths.quantile(_sequence(out=100), 0.5) == 400
    assert lengths.quantile(_sequence(out=500), 0.9) == 1000
    assert lengths.quantile(_sequence(out=500, slo=SOON), 0.9) == 1000  # another class: that of all


def test_conserves_under_memory_pressure() -> None:
    for memory in ("recompute", "swap"):
        setup = Setup(lambda: Jitserve(batch=4, interval=5), memory=memory, blocks=140)
        run_sim(small_workload(4, 40, 30.0), setup).conserved()
