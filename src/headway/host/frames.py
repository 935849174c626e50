"""What the two sides of a host's socket say to each other: msgpack frames, each behind its length.

Never pickle. A frame is at most `MOST_BYTES`; a longer one ends the connection.
"""

from __future__ import annotations

import asyncio

import msgspec

from headway.core.fleet import ABORTED, Report
from headway.core.request import PrefixExtent, Request, Slo, Stage
from headway.core.sampling import Sampling, TokenLogprob
from headway.errors import HeadwayError
from headway.host.spec import HostSpec

MOST_BYTES = 64 << 20
_LENGTH_BYTES = 4


class Start(msgspec.Struct, tag=True, frozen=True):
    """First frame to a host. `start_s` is the parent's time zero on the machine's monotonic clock."""

    spec: HostSpec
    start_s: float


class Loading(msgspec.Struct, tag=True, frozen=True):
    """So many layers are loaded; comes before the answer, now and then."""

    done: int
    total: int


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The host's answer to `Start`."""

    model: str
    layers: int
    blocks: int
    load_s: float
    device: str = ""
    dtype: str = ""


class Refused(msgspec.Struct, tag=True, frozen=True):
    """The host cannot start, and why."""

    why: str


class Submit(msgspec.Struct, tag=True, frozen=True):
    """A request, whole."""

    id: int
    arrival_ns: int
    prompt_tokens: int
    max_tokens: int
    slo: Slo
    tenant: str
    session: int | None
    workflow: int | None
    quality_floor: float | None
    stages: tuple[Stage, ...]
    prefix: tuple[PrefixExtent, ...]
    next_extent: int | None
    prompt_ids: tuple[int, ...] | None
    sampling: Sampling
    supersedes: int | None

    @classmethod
    def of(cls, request: Request) -> Submit:
        """Pack."""
        return cls(**{name: getattr(request, name) for name in cls.__struct_fields__})

    def request(self) -> Request:
        """Unpack."""
        return Request(**{name: getattr(self, name) for name in self.__struct_fields__})


class Reply(msgspec.Struct, tag=True, frozen=True):
    """Was a request accepted?"""

    id: int
    why_not: str | None


class Abort(msgspec.Struct, tag=True, frozen=True):
    """End a request, because nobody wants it any more or because it has all it wanted (`finished`)."""

    id: int
    outcome: str = ABORTED


class Drain(msgspec.Struct, tag=True, frozen=True):
    """Take no more, answer `Drained`, and end."""


class Drained(msgspec.Struct, tag=True, frozen=True):
    """All is over; the host ends."""


class Tokens(msgspec.Struct, tag=True, frozen=True):
    """One message a step: what it emitted, and when it ended."""

    step: int
    end_ns: int
    ids: dict[int, list[int]]  # request id -> new ids
    logprobs: dict[int, list[TokenLogprob]] = {}  # of those that asked for them
    cached: dict[
        int, int
    ] = {}  # with its first token: prompt tokens that came from the prefix cache


class Ended(msgspec.Struct, tag=True, frozen=True):
    """A request's end, with the books of its sequence."""

    id: int
    outcome: str
    now_ns: int
    started_ns: int
    cached_tokens: int
    computed_tokens: int
    preemptions: int


class Reported(msgspec.Struct, tag=True, frozen=True):
    """A report."""

    report: Report


Frame = (
    Start
    | Loading
    | Ready
    | Refused
    | Submit
    | Reply
    | Abort
    | Drain
    | Drained
    | Tokens
    | Ended
    | Reported
)
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)


class FrameError(HeadwayError):
    """The other side said something that is no frame."""


def pack(frame: Frame) -> bytes:
    """Length and body."""
    body = _encoder.encode(frame)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


async def read(reader: asyncio.StreamReader) -> Frame | None:
    """Read the next frame; None when the other side has closed.

    Raises:
        FrameError: too long, or not a frame.
    """
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
        if length > MOST_BYTES:
            raise FrameError(f"a frame of {length} bytes, at most {MOST_BYTES}: the peer is broken")
        return _decoder.decode(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except msgspec.MsgspecError as error:
        raise FrameError(f"not a frame: {error}") from error
