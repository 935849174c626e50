"""Two nodes that prefill and decode: what it is worth that KV stays on its node, over slower and slower networks.

Usage: python examples/pair_by_bandwidth.py
"""

import headway

NETWORKS = ("ndr400", "100gbe", "25gbe", "10gbe")


def main() -> None:
    print(f"{'between nodes':16}{'ignored':>14}{'paired':>14}{'ratio':>10}")
    for network in NETWORKS:
        tpot_ms = [
            headway.simulate(
                model="opt-13b", gpu="a100", roles="prefill:2,decode:2", nodes=2, link=network,
                batching="prefill_first", routing="distserve", options={"routing.pair": pair},
                rate_rps=3.0, requests=300,
            ).summary["p90_tpot_ms"]
            for pair in (False, True)
        ]  # fmt: skip
        print(
            f"{network:16}"
            + "".join(f"{each:11.1f} ms" for each in tpot_ms)
            + f"{tpot_ms[0] / tpot_ms[1]:9.2f}x"
        )


if __name__ == "__main__":
    main()
