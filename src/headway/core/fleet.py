"""What the fleet and an instance tell each other. Small, flat and serialisable: it crosses processes."""

from __future__ import annotations

from typing import NamedTuple

FINISHED_OK = "finished"
ABORTED, FAILED_STEP, SHED, RETURNED, REJECTED = "aborted", "failed", "shed", "returned", "rejected"


class Report(NamedTuple):
    """What an instance last said of itself."""

    time_ns: int
    requests: int  # waiting, running and moving
    prompt_tokens: int  # of those requests: the work they brought
    waiting: int
    free_blocks: int
    total_blocks: int
    stopped: str = ""  # why it takes no more requests
    running: int = 0
    queued_tokens: int = 0  # input of waiting and running requests that is not computed yet
    head_blocks: int = 0  # what the first waiting request needs and lacks
    waiting_blocks: int = 0  # what all waiting requests need and lack
    preemptions: int = 0  # so far
    queued: tuple[
        tuple[int, int], ...
    ] = ()  # (request id, uncomputed tokens) of those waiting, in order
    movable: tuple[
        tuple[int, int], ...
    ] = ()  # (request id, blocks) of those decoding, last in order first


class Handoff(NamedTuple):
    """A sequence between two instances: everything but its KV, which goes through a transfer.

    A live migration makes several, one a stage; only with the `last` one the sequence stops.
    """

    request_id: int
    total_tokens: int
    computed_tokens: int
    output_tokens: int
    blocks: int  # that come with this stage
    first_token_ns: int
    last_token_ns: int
    started_ns: int = -1
    cached_tokens: int = 0
    preemptions: int = 0
    output_ids: tuple[int, ...] = ()
    first: int = 0  # blocks before it are there already
    last: bool = True


class Migrate(NamedTuple):
    """Move a request to another instance: with its KV where it has some, else as it is."""

    request_id: int
    to: str


class SetRole(NamedTuple):
    """From now on an instance is mixed, prefill or decode; what it has, it ends."""

    instance: str
    role: str


class Retire(NamedTuple):
    """Send no more requests to an instance."""

    instance: str


class Enlist(NamedTuple):
    """Send requests to a retired instance again."""

    instance: str


Action = Migrate | SetRole | Retire | Enlist
MIXED, PREFILL, DECODE = "mixed", "prefill", "decode"  # roles
MOVED = "moved"  # an outcome that only listeners of an instance hear: it goes on elsewhere
NEVER = "never: "  # begins a refusal to take a sequence over that will always be one
