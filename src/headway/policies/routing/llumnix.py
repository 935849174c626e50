"""Llumnix dispatch: the instance with the greatest freeness gets the request.

All who wait count with what they lack; so does what was sent since the last report, by its prompt.

Source: Sun et al., "Llumnix: Dynamic Scheduling for Large Language Model Serving", OSDI 2024, and its artifact.
Differs: every class of request is dispatched by one freeness; priorities are the control policy's and the ordering's.
Cost: O(instances) per request.
"""

from dataclasses import dataclass
from typing import ClassVar

from headway.core import FleetView, Request
from headway.policies.freeness import freeness


@dataclass
class LlumnixDispatch:
    """Option: tokens of a KV block, to know what prompts will need that no report has seen yet."""

    block_tokens: int = 16
    reads_reports: ClassVar[bool] = True

    def route(self, request: Request, view: FleetView) -> str:
        """The freest; ties go to the least loaded, then to the first."""
        del request
        best, name = (-float("inf"), 0.0), ""
        for instance in view.instances:
            report, load = view.report(instance), view.load(instance)
            prompts = max(0, view.load(instance, "prompt_tokens") - report.prompt_tokens)
            unseen = -(-prompts // self.block_tokens)
            free = freeness(
                report,
                lacking_blocks=report.waiting_blocks + unseen,
                more=max(0, load - report.running),
            )
            if not name or (free, -load) > best:
                best, name = (free, -load), instance
        return name
