"""Nexus: prefill and decode side by side on one device, with parts that a cost model chooses before anybody is late.

Whenever a lane is free, the model says how long the prompts and the decodes at hand would take at any split, and the
split is moved: while less than `kv_switch` of the KV is in use, prefill gets as much as keeps a decode step within
`decode_slack` of its best; beyond, decode gets as much as keeps a prefill step within `prefill_slack` of its best.
Moves below `delta` percent are not made; a lane changes its part at its own next step; alone, it has the whole
device.

Prompts go shortest first with ageing: by remaining tokens less `gamma` tokens per second since arrival; a step takes
them until one does not fit.

The model. Arithmetic takes 1 / share up to `compute_saturation` and falls by `decay` beyond; reading takes 1 / share
up to `memory_saturation` and is as fast as the bandwidth that is left beyond. The KV of decodes is read beside the
prompts' attention (P of their time) or dense part: bandwidth P·d/(d+p1) + (1-P)·d/(d+p2) of bytes d, p1 and p2, which
here are times derived from what the world predicts of steps (it names no bytes).

Source: Nexus (proactive intra-GPU disaggregation of prefill and decode, 2025), its text: 70 %, 1.1, 1.3 and gamma =
15. Uncertain there, chosen: the form of the model beyond saturation and its constants, the unit of gamma, delta = 5.
Differs: two saturations stand for one per operator; a world that predicts nothing gets halves. Decodes in order; only
the first prompt may be cut.
Cost: O(works) per step, two predictions and about as many evaluations as the split moves percent; O(waiting log
waiting) per prefill step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence as Seq
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar

from headway.core import NS_PER_S, InstanceView, Sequence, StepPlan, Work
from headway.errors import MissingCapabilityError

PREFILL, DECODE = "prefill", "decode"
LEAST, MOST = 5, 95  # percent of the device
PROBE = 512  # tokens: what a token more costs is predicted at twice as many

Cost = Callable[[int], float]
"""Percent of the device -> nanoseconds of the phase's step."""


@dataclass
class Nexus:
    """Options: the objective, the hysteresis, the order of prompts, the cost model, and limits of a step.

    `shortest_first=False` takes prompts in the ordering policy's order; `dynamic=False` keeps `prefill_share`.
    """

    lanes: ClassVar[Mapping[str, int]] = MappingProxyType({PREFILL: 1, DECODE: 1})
    needs: ClassVar[frozenset[str]] = frozenset({"lanes"})

    kv_switch: float = 0.7
    decode_slack: float = 1.1
    prefill_slack: float = 1.3
    delta: int = 5
    prefill_share: int = 50
    dynamic: bool = True
    shortest_first: bool = True
    gamma: float = 15.0
    compute_saturation: int = 80
    decay: float = 0.5
    memory_saturation: int = 50
    token_budget: int = 2048
    max_num_seqs: int = 256
    _blocks: int = field(default=0, init=False, repr=False)  # of the pool: the most ever free
    _token_ns: float = field(default=-1.0, init=False, repr=False)
    _weights_ns: float = field(default=0.0, init=False, repr=False)

    @property
    def step_tokens(self) -> int:
        """Most tokens one step computes."""
        return max(self.token_budget, self.max_num_seqs)

    def plan(self, view: InstanceView) -> StepPlan:
        """Fill the lanes, then split the device between what they hold."""
        self._blocks = max(self._blocks, view.free_blocks)
        work: dict[str, list[Work]] = {}
        if DECODE in view.idle_lanes:
            work[DECODE] = view.take_decodes(DECODE, limit=self.max_num_seqs)
        if PREFILL in view.idle_lanes:
            work[PREFILL] = self._prompts(view)
        prompts = work.get(PREFILL) or view.in_flight(PREFILL)
        decodes = work.get(DECODE) or view.in_flight(DECODE)
        if not (prompts and decodes):
            alone = not (view.prefilling or view.waiting)
            return StepPlan(work, {PREFILL: 1000, DECODE: 1000}, steady=alone)
        if self.dynamic:
            self._split(view, prompts, decodes)
        percent = self.prefill_share
        return StepPlan(work, {PREFILL: 10 * percent, DECODE: 10 * (100 - percent)})

    def _prompts(self, view: InstanceView) -> list[Work]:
        if not self.shortest_first:
            return view.take_prefills(
                PREFILL, tokens=self.token_budget, sequences=self.max_num_seqs
            )
        works: list[Work] = []
        left, running = self.token_budget, len(view.running)
        ranked = sorted(
            [*view.prefilling, *view.waiting], key=lambda sequence: self._score(view, sequence)
        )
        for sequence in ranked:
            tokens, starts = sequence.remaining_tokens, sequence.state == "waiting"
            if sequence.leases or (starts and running >= self.max_num_seqs):
                continue
            if works and tokens > left:
                break
            if starts and not sequence.swapped and not _fits(view, sequence):
                break
            work = view.take(sequence, min(tokens, left), PREFILL)
            if work is None:
                continue  # it is on its way back, or has to wait for room
            works.append(work)
            left -= work.tokens
            running += starts
            if left <= 0:
                break
        return works

    def _score(self, view: InstanceView, sequence: Sequence) -> tuple[float, int]:
        age_s = (view.now_ns - sequence.request.arrival_ns) / NS_PER_S
        return sequence.remaining_tokens - self.gamma * age_s, sequence.id

    # -- the split -----------------------------------------------------------------------------------------------

    def _split(self, view: InstanceView, prompts: Seq[Work], decodes: Seq[Work]) -> None:
        """Move the split when the model says by `delta` or more."""
        try:
            prefill, decode = self._costs(view, prompts, decodes)
        except MissingCapabilityError:
            self.dynamic, self.prefill_share = False, 50
            return
        used = 1 - view.free_blocks / self._blocks if self._blocks else 0.0
        now = self.prefill_share
        if used < self.kv_switch:
            wanted = adjust(decode, self.decode_slack, now)
        else:
            wanted = 100 - adjust(prefill, self.prefill_slack, 100 - now)
        if abs(wanted - now) >= self.delta:
            self.prefill_share = wanted

    def _costs(
        self, view: InstanceView, prompts: Seq[Work], decodes: Seq[Work]
    ) -> tuple[Cost, Cost]:
        if self._token_ns < 0:
            self._token_ns = max(
                0.0, (view.chunk_time_ns(2 * PROBE) - view.chunk_time_ns(PROBE)) / PROBE
            )
            self._weights_ns = max(1.0, view.chunk_time_ns(1))
        tokens = sum(work.tokens for work in prompts)
        context = sum(work.sequence.computed_tokens for work in prompts)
        prefill_ns = max(1, view.step_time_ns(prompts))
        weights_ns, dense_ns = self._weights_ns, tokens * self._token_ns
        kv_ns = max(1.0, view.step_time_ns(decodes) - weights_ns)
        attends = max(0.0, 1 - max(dense_ns, weights_ns) / prefill_ns)
        prompt_kv_ns = max(0.0, view.chunk_time_ns(1, context) - weights_ns) if context else 0.0
        left = attends * kv_ns / (kv_ns + prompt_kv_ns)
        left += (1 - attends) * kv_ns / (kv_ns + weights_ns)
        decode_flop_ns = len(decodes) * self._token_ns

        def prefill(percent: int) -> float:
            return prefill_ns * self._slower(percent)

        def decode(percent: int) -> float:
            reach = max(1.0, self.memory_saturation / percent)
            dense = max(decode_flop_ns * self._slower(percent), weights_ns * reach)
            return dense + kv_ns * max(reach, 1 / left)

        return prefill, decode

    def _slower(self, percent: int) -> float:
        """Arithmetic's time over that with the whole device."""
        knee = self.compute_saturation
        whole = 1 - self.decay * (100 - knee) / 100
        if percent < knee:
            return knee / percent / whole
        return (1 - self.decay * (percent - knee) / 100) / whole


def adjust(other: Cost, slack: float, percent: int) -> int:
    """The most percent that leave the other phase within `slack` of its time with the whole device."""
    cap = slack * other(100)
    while percent > LEAST and other(100 - percent) > cap:
        percent -= 1
    while percent < MOST and other(100 - percent - 1) <= cap:
        percent += 1
    return percent


def _fits(view: InstanceView, sequence: Sequence) -> bool:
    """Is there room for the whole prompt, whatever the prefix cache holds of it?"""
    return -(-sequence.total_tokens // view.block_tokens) <= view.free_blocks
