"""Shortest prompt first: mean TTFT falls, long prompts may wait long.

Source: shortest job first, with the prompt as the known part of the job. Differs: nothing is predicted of the
output; ties go to who came first.
"""

from dataclasses import dataclass
from typing import ClassVar

from headway.core import Sequence


@dataclass
class ShortestPrompt:
    """By prompt tokens."""

    dynamic: ClassVar[bool] = False

    def key(self, sequence: Sequence) -> tuple[float, ...]:
        """Prompt tokens, then arrival, then id."""
        request = sequence.request
        return (request.prompt_tokens, request.arrival_ns, request.id)
