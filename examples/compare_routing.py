"""Conversations that all begin with one system prompt, on four instances, under four ways to route them.

Usage: python examples/compare_routing.py
"""

import headway
from headway.core import NS_PER_MS, Slo
from headway.policies.routing.prefix_affinity import PrefixAffinity
from headway.workload import Poisson, Sessions
from headway.workload.sessions import Think

ROUTINGS = {
    "round_robin": "round_robin",
    "least_work": "least_work",
    "prefix_affinity": "prefix_affinity",
    "... with load_guard=1.5": PrefixAffinity(load_guard=1.5),
}


def main() -> None:
    slo = Slo(ttft_ns=1000 * NS_PER_MS, tpot_ns=60 * NS_PER_MS)
    workload = Sessions(
        Poisson(10.0), sessions=600, context_tokens=32_768, system_tokens=1024, think=Think(1.0, 1.0), slo=slo
    )  # fmt: skip
    print(f"{'routing':26}{'attainment':>12}{'TTFT p50':>12}{'TTFT p99':>12}{'cache hits':>12}")
    for name, routing in ROUTINGS.items():
        told = headway.simulate(workload=workload, routing=routing, instances=4).summary
        times = (told[f"{p}_ttft_ms"] / 1000 for p in ("p50", "p99"))
        shares = (told["slo_attainment"], told["prefix_cache_hit_rate"])
        print(
            f"{name:26}{shares[0]:12.1%}"
            + "".join(f"{time:10.2f} s" for time in times)
            + f"{shares[1]:12.1%}"
        )


if __name__ == "__main__":
    main()
