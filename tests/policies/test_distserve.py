"""DistServe: where prompts go, where they decode, and what separation buys: gaps that no prefill stretches."""

from __future__ import annotations

import pytest

from headway.api import Scenario
from headway.api.pools import pools_of
from headway.api.runner import run
from headway.core import Request
from headway.errors import OptionError, UnknownNameError
from headway.testing import Setup, SmallWorkload, run_sim
from headway.workload import Offered

BASE = Scenario(model="opt-13b", gpu="a100", requests=120, slo=("ttft=1s,tpot=60ms",))
SPLIT = BASE.at(roles="prefill:1,decode:1", routing="distserve", batching="prefill_first")


def test_prompts_join_the_shortest_queue_and_decodes_the_least_loaded() -> None:
    lengths = (900, 100, 100, 100)  # one long prompt fills a queue for itself
    offers = tuple(Offered(Request(n, n, tokens, 40), 40) for n, tokens in enumerate(lengths))
    setup = Setup(
        "prefill_first",
        routing="distserve",
        instances=4,
        roles=("prefill", "prefill", "decode", "decode"),
    )
    done = run_sim(SmallWorkload(offers), setup)
    done.conserved()
    first, second, *decodes = done.instances
    assert (first.pool.total, second.steps >= 1) == (setup.blocks, True)
    assert all(instance.steps for instance in decodes), "both decode"
    assert max(done.log.times_ns[n][0] for n in (1, 2, 3)) < done.log.times_ns[0][0] * 2


def test_separation_keeps_prefills_out_of_the_gaps() -> None:
    split = run(SPLIT.at(rate_rps=4.0)).summary
    mixed = run(BASE.at(instances=2, batching="prefill_first", rate_rps=4.0)).summary
    assert split["p99_itl_ms"] < mixed["p99_itl_ms"] / 2


def test_a_slow_link_shows_in_the_second_token_and_not_in_the_first() -> None:
    fast, slow = (run(SPLIT.at(rate_rps=1.0, link=link)).summary for link in ("nvlink3", "25gbe"))
    assert slow["median_ttft_ms"] == pytest.approx(fast["median_ttft_ms"], rel=0.01)
    assert slow["mean_tpot_ms"] > fast["mean_tpot_ms"]


def test_no_prefills_no_gain() -> None:
    """Null: prompts of one token leave nothing to separate."""
    offers = tuple(Offered(Request(n, n * 10_000_000, 1, 50), 50) for n in range(20))
    mixed = Setup("prefill_first", routing="distserve", instances=1)
    split = Setup("prefill_first", routing="distserve", instances=2, roles=("prefill", "decode"))
    one, two = (run_sim(SmallWorkload(offers), setup) for setup in (mixed, split))
    ends = [max(done.log.ends_ns.values()) for done in (one, two)]
    assert ends[1] == pytest.approx(ends[0], rel=0.05)


def test_pools_are_read_and_nonsense_is_refused() -> None:
    pools = pools_of(BASE.at(roles="prefill:2, decode:1@2"))
    assert [tuple(pool) for pool in pools] == [("prefill", 2, 1), ("decode", 1, 2)]
    with pytest.raises(OptionError, match="nobody can decode"):
        pools_of(BASE.at(roles="prefill:2"))
    with pytest.raises(UnknownNameError, match="prefill"):
        pools_of(BASE.at(roles="prefil:2,decode:1"))
    with pytest.raises(OptionError, match="leave instances out"):
        pools_of(BASE.at(roles="prefill:2,decode:1", instances=4))
    with pytest.raises(UnknownNameError, match="link"):
        run(SPLIT.at(link="nvlink33"))
