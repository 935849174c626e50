"""Durations written down in one world and played back in another, in the order steps begin."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from headway.core import Step, Transfer
from headway.core.protocols import TimingModel
from headway.errors import MissingCapabilityError, OptionError


class Recorder:
    """Passes another timing model's answers through, and keeps them."""

    def __init__(self, timing: TimingModel) -> None:
        self._timing = timing
        self.layers = timing.layers
        self.steps_ns: list[int] = []  # one entry per repeat
        self.transfers_ns: list[int] = []

    def durations_ns(self, step: Step, repeats: int) -> list[int]:
        """As the recorded model says."""
        durations = self._timing.durations_ns(step, repeats)
        self.steps_ns.extend(durations)
        return durations

    def chunk_time_ns(self, tokens: int, context_tokens: int) -> int:
        """As the recorded model says; predictions are not kept."""
        return self._timing.chunk_time_ns(tokens, context_tokens)

    def transfer_ns(self, transfer: Transfer) -> int:
        """As the recorded model says."""
        duration = self._timing.transfer_ns(transfer)
        self.transfers_ns.append(duration)
        return duration


class Recorded:
    """Plays durations back. Raises OptionError when more steps begin than were recorded."""

    def __init__(
        self, steps_ns: Iterable[int], transfers_ns: Iterable[int] = (), *, layers: int
    ) -> None:
        self.layers = layers
        self._steps_ns, self._transfers_ns = deque(steps_ns), deque(transfers_ns)

    @property
    def left(self) -> int:
        """Step durations not played yet."""
        return len(self._steps_ns)

    def durations_ns(self, step: Step, repeats: int) -> list[int]:
        """The next `repeats` durations."""
        if repeats > len(self._steps_ns):
            raise OptionError(
                f"step {step.id} asks for {repeats} durations but the recording has "
                f"{len(self._steps_ns)} left: the runs differ, or record a longer one"
            )
        return [self._steps_ns.popleft() for _ in range(repeats)]

    def chunk_time_ns(self, tokens: int, context_tokens: int) -> int:
        """A recording predicts nothing.

        Raises:
            MissingCapabilityError: always.
        """
        raise MissingCapabilityError(
            f"a recording predicts no time for {tokens} tokens over {context_tokens}: play it back with a "
            "policy that asks for no predictions"
        )

    def transfer_ns(self, transfer: Transfer) -> int:
        """The next transfer's duration."""
        if not self._transfers_ns:
            raise OptionError(
                f"transfer {transfer.id} has no recorded duration left: the runs differ"
            )
        return self._transfers_ns.popleft()
