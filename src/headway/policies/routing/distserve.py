"""DistServe: prompts to the shortest prefill queue, then to the nearest, least loaded decode instance.

A prompt counts in a queue until its KV has left: queued, in progress, and not yet pulled. The decode side pulls under
its own back-pressure (`runtime.imports`); the first token comes from the prefill instance. In a fleet without roles
it is the shortest queue and nothing more.

Decode instances are chosen by their bandwidth to where the prompt was computed, and by load among the best: where
nodes hold both roles, KV never leaves its node, and a prompt waits for a decode instance of its own node even while
another node's is idle. That is the paper's placement for slow networks; where all links are alike, load alone decides.

Source: Zhong et al., "DistServe: Disaggregating Prefill and Decoding for Goodput-optimized Large Language Model
Serving", OSDI 2024, and its artifact (the dispatch rules; placement with low node-affinity).
Differs: whole instances share a node, not pipeline stages of them. Phase batching is the batching policy's:
`prefill_first` computes prompts as theirs does. How many instances of which size is an offline search.
Cost: O(instances) per request.
"""

from dataclasses import dataclass, field

from headway.core import FleetView, Request


@dataclass
class DistServe:
    """Options: what counts as load of a prefill and of a decode instance (requests | prompt_tokens).

    `pair`: nearest decode instances first; False ignores bandwidth.
    """

    prefill_measure: str = "prompt_tokens"
    decode_measure: str = "requests"
    pair: bool = True
    _where: dict[int, str] = field(default_factory=dict, init=False, repr=False)

    def on_place(self, request: Request, instance: str) -> None:
        """Remember where its prompt is computed."""
        self._where[request.id] = instance

    def on_end(self, request: Request, outcome: str) -> None:
        """Forget it."""
        del outcome
        self._where.pop(request.id, None)

    def route(self, request: Request, view: FleetView) -> str:
        """The shortest queue, among those that take new requests."""
        del request
        return view.least_loaded(self.prefill_measure)

    def hand_over(self, request: Request, view: FleetView) -> str | None:
        """The least loaded of the nearest decode instances, else of the nearest mixed ones."""
        names = view.of_role("decode") or view.of_role("mixed")
        source = self._where.get(request.id) if self.pair else None
        if source is not None and names:
            speeds = {name: view.bytes_per_s(source, name) for name in names}
            best = max(speeds.values())
            names = [name for name in names if speeds[name] == best]
        return min(names, key=lambda name: view.load(name, self.decode_measure), default=None)
