"""A sink in front of the recorder: counts what energy needs, and why requests were rejected."""

from __future__ import annotations

from headway.core import Request, Sequence, Step, StepResult
from headway.core.fleet import REJECTED
from headway.metrics import Recorder


class StepMeter:
    """Passes everything on to `recorder`."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.steps = 0  # of all instances; a leap counts each of its repeats
        self.rejections: dict[str, int] = {}  # reason, as the first of its kind said it -> requests
        self._record = recorder.on_tokens

    def on_tokens(self, step: Step, result: StepResult) -> None:
        """A step or some repeats landed."""
        self.steps += len(result.ends_ns)
        self._record(step, result)

    def on_end(
        self, request: Request, sequence: Sequence | None, outcome: str, now_ns: int
    ) -> None:
        """A request ended."""
        if outcome.startswith(REJECTED):
            reason = outcome.partition(":")[2].strip()
            # Numbers differ from request to request; the kind of reason does not.
            alike = next((old for old in self.rejections if _words(old) == _words(reason)), reason)
            self.rejections[alike] = self.rejections.get(alike, 0) + 1
        self.recorder.on_end(request, sequence, outcome, now_ns)


def _words(reason: str) -> str:
    return "".join(letter for letter in reason if not letter.isdigit())
