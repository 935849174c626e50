"""What policies see: read-only windows, built by `runtime`. Nothing here is a copy."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from random import Random
from typing import Protocol

from headway.core.fleet import Report
from headway.core.plan import Work
from headway.core.request import Request
from headway.core.sequence import Sequence


class InstanceView(Protocol):
    """One instance, and the draft of the plan being made.

    `take*` reserve blocks in the draft and return works; nothing happens until the plan was returned and
    checked. `waiting` and `running` are in the ordering policy's order: never change them.
    """

    @property
    def now_ns(self) -> int: ...
    @property
    def idle_lanes(self) -> Seq[str]: ...
    @property
    def free_blocks(self) -> int:
        """Left in the draft."""

    @property
    def taken_tokens(self) -> int:
        """Tokens of all works taken in the draft, drafts included."""

    @property
    def block_tokens(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def step_tokens(self) -> int:
        """Most tokens a step may compute here."""

    @property
    def rng(self) -> Random:
        """Seeded by assembly, one per instance."""

    @property
    def waiting(self) -> Seq[Sequence]: ...
    @property
    def running(self) -> Seq[Sequence]: ...
    @property
    def decoding(self) -> Seq[Sequence]:
        """Running sequences whose next step emits a token from one computed token."""

    @property
    def prefilling(self) -> Seq[Sequence]:
        """Running sequences with input left to compute."""

    def uncached_tokens(self, sequence: Sequence) -> int:
        """Input it has left to compute, without what it could start on in the prefix cache now."""

    def in_flight(self, lane: str) -> Seq[Work]:
        """Works of the lane's newest step; empty when idle."""

    def take(
        self,
        sequence: Sequence,
        tokens: int,
        lane: str = "main",
        *,
        draft_tokens: int = 0,
        layers: tuple[int, int] | None = None,
        pad_to: int | None = None,
    ) -> Work | None:
        """Work for at most `tokens` tokens of `sequence`, or None when it cannot advance in this plan.

        Asks the memory policy for room; starts a swapped-out sequence's way back; resumes an interrupted
        chunk whole, whatever `tokens`.
        """

    def take_decodes(
        self, lane: str = "main", *, draft_tokens: int | None = None, limit: int | None = None
    ) -> list[Work]:
        """One token (and drafts) for every decode that can advance, in order, at most `limit` tokens.

        `draft_tokens=None` leaves the number to the speculation policy.

        `decodes + chunks` is the cheap way to add to them.
        """

    def take_prefills(
        self, lane: str = "main", *, tokens: int, sequences: int | None = None, whole: bool = False
    ) -> list[Work]:
        """Chunks in order, running prefills first, then waiting ones: nobody overtakes.

        At most `tokens` tokens; no more than `sequences` running after it. `whole`: a prompt is only cut
        when it is longer than `tokens` and first. A waiting prompt starts only when all of it fits.
        """

    def step_time_ns(self, works: Seq[Work]) -> int:
        """Predicted duration; needs the capability `predicts`."""

    def chunk_time_ns(self, tokens: int, context_tokens: int = 0) -> int:
        """Predicted duration of one prefill chunk alone; needs the capability `predicts`."""


class FleetView(Protocol):
    """Last reports by instance, corrected by what was sent since. Never lists requests."""

    @property
    def now_ns(self) -> int: ...
    @property
    def rng(self) -> Random: ...

    @property
    def instances(self) -> Seq[str]:
        """Ids that take new requests, in a fixed order; those that only decode are not among them."""

    def of_role(self, role: str) -> Seq[str]:
        """Instances of a role (mixed | prefill | decode) that take requests, from clients or from each other."""

    @property
    def in_flight(self) -> int:
        """Requests accepted by the fleet and not ended."""

    def report(self, instance: str) -> Report: ...
    def age_ns(self, instance: str) -> int: ...
    def load(self, instance: str, measure: str = "requests") -> int:
        """`requests` or `prompt_tokens` there, sent and not ended."""

    def least_loaded(self, measure: str = "requests") -> str:
        """The instance with the smallest load; ties go to the first."""

    def bytes_per_s(self, one: str, other: str) -> float:
        """Bandwidth for KV between two instances, a fact of the machine: infinite where nobody says."""

    def stream_demand(self, request: Request) -> tuple[int, int, int]:
        """Of all accepted periodic streams and `request`: tokens a period, context tokens, shortest period (ns)."""

    def step_time_ns(self, tokens: int, context_tokens: int) -> int | None:
        """Predicted time of one step of `tokens` tokens over `context_tokens`; None when nobody predicts."""
