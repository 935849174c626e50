"""One stream of tokens being computed for a request. Written by `runtime` only; policies read it."""

from __future__ import annotations

from headway.core.plan import Work
from headway.core.request import Request

WAITING = "waiting"  # in no step yet, preempted, or swapped out (then `swapped`)
RUNNING = "running"  # holds blocks and takes part in steps
RESTING = "resting"  # a periodic stream between two releases; holds its blocks
LEAVING = "leaving"  # its KV is on the way out, or it waits for an instance that decodes it
ENTERING = "entering"  # its KV is on the way in
FINISHED = "finished"


class Sequence:
    """Progress and blocks of one request. `pending_*` is what the steps in flight are expected to add."""

    __slots__ = (
        "blocks",
        "cached_tokens",
        "capacity_tokens",
        "computed_tokens",
        "decode",
        "decodes",
        "denoised",
        "denoises",
        "first_token_ns",
        "id",
        "lane",
        "last_token_ns",
        "leases",
        "max_tokens",
        "nodes",
        "order",
        "output_ids",
        "output_tokens",
        "owner",
        "partial",
        "pending_output",
        "pending_tokens",
        "preemptions",
        "request",
        "started_ns",
        "state",
        "swapped",
        "total_tokens",
    )

    def __init__(self, request: Request, owner: object = None) -> None:
        self.request = request
        self.owner = owner  # the instance
        self.id = request.id
        self.state = WAITING
        self.max_tokens = request.max_tokens
        self.denoises = (
            request.stage.denoise_tokens > 0
        )  # masks stand for its answer from the start
        self.denoised = 0  # denoising steps done
        self.total_tokens = request.prompt_tokens  # input so far + output so far, or all masks
        if self.denoises:
            self.total_tokens += request.max_tokens
        self.computed_tokens = 0  # tokens whose KV is in blocks, or on the host while swapped out
        self.output_tokens = 0
        self.cached_tokens = 0  # computed tokens that came from the prefix cache, at the last start
        self.blocks: list[int] = []  # the block table, shared prefix blocks first
        self.capacity_tokens = 0  # tokens that fit in `blocks`
        self.nodes: tuple[object, ...] = ()  # prefix-index extents it holds
        self.swapped = False  # waiting, with its KV on the host
        self.leases = 0  # steps and transfers in flight; blocks outlive the sequence until it is 0
        self.lane: str | None = None  # where it is in flight
        self.partial: tuple[int, int] | None = None  # (tokens, layers done) of an unfinished chunk
        self.pending_tokens = 0
        self.pending_output = 0
        self.output_ids: list[int] | None = None  # live worlds only
        self.started_ns = -1  # first step it took part in
        self.first_token_ns = -1
        self.last_token_ns = -1
        self.preemptions = 0
        self.order: tuple[float, ...] = ()  # the ordering policy's key, as last computed
        self.decodes = False  # filed among the running that decode
        self.decode: Work = Work(self, 1)  # its one-token work, made once: plans are rebuilt often

    @property
    def remaining_tokens(self) -> int:
        """Tokens to compute before the next can be sampled, once what is in flight has landed."""
        return self.total_tokens + self.pending_output - self.computed_tokens - self.pending_tokens

    @property
    def in_prefill(self) -> bool:
        """Is there input left to compute (after a preemption: input and old output)? While it denoises: always."""
        return (
            self.remaining_tokens > 1
            or self.output_tokens + self.pending_output == 0
            or self.denoises
        )

    @property
    def refreshes(self) -> bool:
        """Does its next denoising step compute prompt and answer anew? It must when their KV is not there."""
        stage = self.request.stage
        return (
            self.computed_tokens < self.total_tokens
            or self.denoised % stage.denoise_steps < stage.refresh_steps
        )

    @property
    def denoise_tokens(self) -> int:
        """Tokens that its next denoising step computes: all, or the span that is being denoised."""
        if self.refreshes:
            return self.total_tokens
        return min(self.request.stage.denoise_tokens, self.max_tokens - self.output_tokens)

    @property
    def due_ns(self) -> int | None:
        """When its next output unit is due, absolute; None when nothing was promised."""
        return self.request.due_ns(self.output_tokens)

    def __repr__(self) -> str:
        """Short enough for an error message."""
        return (
            f"<Sequence {self.request.id} {self.state} {self.computed_tokens}/{self.total_tokens}>"
        )
