"""DistServe: prompts to the prefill instance with the shortest queue, then to the least loaded decode instance.

A prompt counts in a queue until its KV has left: queued, in progress, and not yet pulled. The decode side pulls under
its own back-pressure (`runtime.imports`); the first token comes from the prefill instance. In a fleet without roles
it is the shortest queue and nothing more.

Source: Zhong et al., "DistServe: Disaggregating Prefill and Decoding for Goodput-optimized Large Language Model
Serving", OSDI 2024, and its artifact (the dispatch rules).
Differs: instances are not paired by node, for all links of our fleets are alike. Phase batching is the batching
policy's: `prefill_first` computes prompts as theirs does. How many instances of which size is an offline search.
Cost: O(instances) per request.
"""

from dataclasses import dataclass

from headway.core import FleetView, Request


@dataclass
class DistServe:
    """Options: what counts as load of a prefill and of a decode instance (requests | prompt_tokens)."""

    prefill_measure: str = "prompt_tokens"
    decode_measure: str = "requests"

    def route(self, request: Request, view: FleetView) -> str:
        """The shortest queue, among those that take new requests."""
        del request
        return view.least_loaded(self.prefill_measure)

    def hand_over(self, request: Request, view: FleetView) -> str | None:
        """The least loaded decode instance, else a mixed one."""
        del request
        names = view.of_role("decode") or view.of_role("mixed")
        return min(names, key=lambda name: view.load(name, self.decode_measure), default=None)
