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


class Handoff(NamedTuple):
    """A sequence between two instances: everything but its KV, which goes through a transfer."""

    request_id: int
    total_tokens: int
    computed_tokens: int
    output_tokens: int
    blocks: int
    first_token_ns: int
    last_token_ns: int
    started_ns: int = -1
    cached_tokens: int = 0
    preemptions: int = 0
    output_ids: tuple[int, ...] = ()
