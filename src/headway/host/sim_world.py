"""The simulated world in real time: nothing is computed, and every step takes as long as it would."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass, field
from functools import partial

from headway.clocks.wall import WallClock
from headway.core.plan import Step, WorkDone
from headway.core.protocols import TimingModel
from headway.core.request import Request
from headway.core.sampling import TokenLogprob
from headway.core.sequence import Sequence
from headway.host.spec import HostSpec, SimSpec
from headway.host.world import OnLayer, World
from headway.sim.outcomes import Lengths
from headway.sim.timed import Timed
from headway.timing import Drafting, Roofline, load_device, load_model
from headway.timing.profile import load_profile

ANY_IDS = range(3, 32_000)
_MIX = 0x9E3779B97F4A7C15
_WORD = (1 << 64) - 1


def open_sim(spec: HostSpec, on_layer: OnLayer) -> Callable[[WallClock], World]:
    """Read the timing model; there are no layers to load.

    Raises:
        HeadwayError: no such model, device or profile.
    """
    del on_layer
    name, device, timing = timing_of(spec)
    said = Said(Lengths({}, timing.layers, leaps=False), spec.sim)

    def on(clock: WallClock) -> World:
        executor = Timed(clock, timing, said)
        dtype = spec.sim.precision or "as the sheet says"
        return World(name, device, dtype, executor, accept=said.accept, timing=timing)

    return on


def timing_of(spec: HostSpec) -> tuple[str, str, TimingModel]:
    """Return names of model and device, and the step times, of a profile or of the sheets."""
    sim = spec.sim
    if sim.profile:
        return spec.model, sim.profile, load_profile(sim.profile)
    sheet, device = load_model(spec.model, sim.precision), load_device(sim.gpu)
    roofline = Roofline(sheet, device, sim.tp, block_tokens=spec.block_tokens)
    if not spec.draft_model:
        return sheet.name, device.name, roofline
    drafting = Drafting(roofline, load_model(spec.draft_model), device, sim.tp)
    return sheet.name, device.name, drafting


@dataclass(slots=True)
class Said:
    """Implements `Outcomes`: lengths drawn when a request comes in, ids a function of (seed, position)."""

    lengths: Lengths
    spec: SimSpec
    ids: Seq[int] = ANY_IDS
    leaps: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Draw from the ids that were given."""
        self.ids = self.spec.ids or ANY_IDS

    def accept(self, request: Request) -> None:
        """Decide how long the answer will be."""
        most, sampling = request.max_tokens, request.sampling
        if self.spec.output_tokens and not sampling.ignore_eos:
            rng = random.Random(f"{sampling.seed}:{request.id}")
            drawn = 1 + int(rng.expovariate(1 / self.spec.output_tokens))
            most = max(1, sampling.min_tokens, min(most, drawn))
        self.lengths.output_tokens[request.id] = min(most, request.max_tokens)

    def lefts(self, sequences: Seq[Sequence]) -> list[int]:
        """As the table says."""
        return self.lengths.lefts(sequences)

    def outcome(self, step: Step, layers: int) -> list[WorkDone]:
        """Of one step; says its tokens too."""
        done = self.lengths.outcome(step, layers)
        return [
            self._said(work.sequence, one) if one.emitted else one
            for work, one in zip(step.work, done, strict=True)
        ]

    def release(self, request_id: int) -> None:
        """Forget its length."""
        self.lengths.output_tokens.pop(request_id, None)

    def _said(self, sequence: Sequence, done: WorkDone) -> WorkDone:
        sampling, first = sequence.request.sampling, sequence.output_tokens
        draw = partial(_drawn, sampling.seed, len(self.ids))
        ids = [self.ids[draw(first + n)] for n in range(done.emitted)]
        logprobs = () if sampling.logprobs is None else [TokenLogprob(0.0)] * len(ids)
        return done._replace(ids=ids, logprobs=logprobs)


def _drawn(seed: int, below: int, position: int) -> int:
    """Mix seed and position (SplitMix64's finaliser) and reduce it below `below`."""
    word = ((seed ^ (seed >> 29)) * 0xD1342543DE82EF95 + (position + 1) * _MIX) & _WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return (word ^ (word >> 31)) % below
