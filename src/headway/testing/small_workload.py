"""Small random workloads that reach every corner of the runtime: aborts, streams, prefixes, turns, tenants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence as Seq
from dataclasses import dataclass, field, replace
from random import Random

from headway.core import NS_PER_MS, NS_PER_S, PrefixExtent, Request, Slo, Stage
from headway.core.fleet import FINISHED_OK
from headway.workload import Offered

_EXTENT_TOKENS = (48, 100)  # one that ends at a block's end, one that does not
_FAMILIES = 4
_TURN_IDS = 1 << 20  # ids of turn n begin at n times this


@dataclass(frozen=True)
class SmallWorkload:
    """A list of offers. `aborts`: request id -> when its client gives up. `turns` more follow a finished one."""

    requests: tuple[Offered, ...]
    aborts: Mapping[int, int] = field(default_factory=dict)
    turns: int = 0
    turn_tokens: int = 37  # new input of a later turn

    def offers(self) -> Iterator[Offered]:
        """All first turns, in order of arrival."""
        return iter(sorted(self.requests, key=lambda o: (o.request.arrival_ns, o.request.id)))

    def on_end(self, request: Request, outcome: str, now_ns: int) -> Seq[Offered]:
        """The next turn of a conversation, 50 ms later: it continues prompt and output together."""
        turn = request.id // _TURN_IDS
        if turn >= self.turns or outcome != FINISHED_OK or request.next_extent is None:
            return ()
        first = request.id % _TURN_IDS
        output_tokens = self.output_tokens(request)
        fresh = request.next_extent + 1
        prefix = (*request.prefix, (request.next_extent, output_tokens), (fresh, self.turn_tokens))
        turned = replace(
            request,
            id=request.id + _TURN_IDS,
            arrival_ns=now_ns + 50 * NS_PER_MS,
            prompt_tokens=request.prompt_tokens + output_tokens + self.turn_tokens,
            prefix=prefix,
            next_extent=fresh + 1,
        )
        return (Offered(turned, max(1, output_tokens - first % 3)),)

    def output_tokens(self, request: Request) -> int:
        """The true length of an offered request, of any turn."""
        length = self._lengths[request.id % _TURN_IDS]
        for _ in range(request.id // _TURN_IDS):
            length = max(1, length - request.id % _TURN_IDS % 3)
        return min(length, request.max_tokens)

    @property
    def _lengths(self) -> dict[int, int]:
        known: dict[int, int] | None = self.__dict__.get("_known")
        if known is None:
            known = {offer.request.id: offer.output_tokens for offer in self.requests}
            self.__dict__["_known"] = known
        return known

    def denoised(self) -> SmallWorkload:
        """The same for a diffusion model, without what it cannot do: every answer is as long as was asked for."""
        stages = (Stage(denoise_tokens=8, denoise_steps=8, refresh_steps=2),)
        offers = []
        for request, length in self.requests:
            plain = replace(request, stages=stages, prefix=(), next_extent=None)
            offers.append(Offered(replace(plain, max_tokens=length), length))
        return SmallWorkload(tuple(offers), self.aborts)

    def with_prompt_ids(self, vocabulary: int) -> SmallWorkload:
        """The same with token ids, so that an engine can compute it: equal extents get equal ids.

        Later turns would need the ids of the answers, so there are none.
        """
        offers = []
        for offer in self.requests:
            request, ids = offer.request, list[int]()
            for extent_hash, tokens in request.prefix:
                ids += _ids(f"{extent_hash}", tokens, vocabulary)
            ids += _ids(f"request {request.id}", request.prompt_tokens - len(ids), vocabulary)
            named = replace(request, prompt_ids=tuple(ids), next_extent=None)
            offers.append(Offered(named, offer.output_tokens))
        return SmallWorkload(tuple(offers), self.aborts)


def _ids(seed: str, count: int, vocabulary: int) -> list[int]:
    rng = Random(seed)
    return [rng.randrange(3, vocabulary) for _ in range(count)]


def small_workload(
    seed: int,
    count: int = 40,
    rate_rps: float = 8.0,
    *,
    prompt_tokens: tuple[int, int] = (20, 900),
    output_tokens: tuple[int, int] = (1, 60),
    streams: int = 0,
    unit_tokens: int = 8,
    abort_share: float = 0.0,
    prefixes: bool = False,
    turns: int = 0,
    tenants: int = 1,
    slack_tokens: int = 5,
) -> SmallWorkload:
    """Draw `count` Poisson arrivals; equal arguments give equal workloads.

    The first `streams` are periodic, 25 units a second. `slack_tokens`: how far max_tokens may lie above the
    true length. `turns`: later turns of every finished request that has a prefix.
    """
    rng, now_s = Random(seed), 0.0
    offers: list[Offered] = []
    aborts: dict[int, int] = {}
    for n in range(count):
        now_s += rng.expovariate(rate_rps)
        length, prompt = rng.randint(*output_tokens), rng.randint(*prompt_tokens)
        prefix = _prefix(rng, prompt_tokens[1]) if prefixes else ()
        prompt = max(prompt, sum(tokens for _, tokens in prefix) + rng.randint(0, 30), 1)
        continues = None
        if turns and not n < streams:
            prefix = (*prefix, ((n + 1) << 32, prompt - sum(tokens for _, tokens in prefix)))
            prefix = tuple(extent for extent in prefix if extent[1])
            continues = ((n + 1) << 32) + 1
        stage = Stage(period_ns=40 * NS_PER_MS, unit_tokens=unit_tokens)
        request = Request(
            n,
            int(now_s * NS_PER_S),
            prompt,
            length + rng.randint(0, slack_tokens),
            Slo(ttft_ns=2 * NS_PER_S, tpot_ns=NS_PER_S // 10) if n % 3 else Slo(),
            tenant=str(n % tenants),
            stages=(stage,) if n < streams else (),
            prefix=prefix,
            next_extent=continues,
        )
        offers.append(Offered(request, length))
        if rng.random() < abort_share:
            aborts[n] = int((now_s + rng.expovariate(1.0)) * NS_PER_S)
    return SmallWorkload(tuple(offers), aborts, turns)


def _prefix(rng: Random, most: int) -> tuple[PrefixExtent, ...]:
    """Extents of one of a few families: the deeper, the fewer requests share it."""
    family, depth, extents, tokens = rng.randrange(_FAMILIES), rng.randint(0, 4), [], 0
    for level in range(depth):
        size = _EXTENT_TOKENS[level % 2]
        if tokens + size > most:
            break
        tokens += size
        extents.append((family * 100 + level, size))
    return tuple(extents)
