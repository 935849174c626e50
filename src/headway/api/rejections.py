"""A sink in front of the recorder: counts why requests were rejected."""

from __future__ import annotations

from collections.abc import Callable

from headway.core import Request, Sequence, Step, StepResult
from headway.core.fleet import REJECTED
from headway.metrics import Recorder


class Rejections:
    """Passes everything on to `recorder`."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.reasons: dict[str, int] = {}  # reason, as the first of its kind said it -> requests
        self.on_tokens: Callable[[Step, StepResult], None] = recorder.on_tokens

    def on_end(
        self, request: Request, sequence: Sequence | None, outcome: str, now_ns: int
    ) -> None:
        """A request ended."""
        if outcome.startswith(REJECTED):
            reason = outcome.partition(":")[2].strip()
            # Numbers differ from request to request; the kind of reason does not.
            alike = next((old for old in self.reasons if _words(old) == _words(reason)), reason)
            self.reasons[alike] = self.reasons.get(alike, 0) + 1
        self.recorder.on_end(request, sequence, outcome, now_ns)


def _words(reason: str) -> str:
    return "".join(letter for letter in reason if not letter.isdigit())
