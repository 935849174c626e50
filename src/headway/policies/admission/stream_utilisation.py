"""Utilisation test: refuse a periodic stream that the fleet could not keep up with.

A stream set is schedulable while the predicted time of one step that serves a unit of every stream is at most the
shortest period, per instance. Requests that are no streams are accepted.

Source: the utilisation bound of earliest deadline first (Liu and Layland, JACM 1973: U <= 1).
Differs: units are batched, so a step's time is shared instead of summed; contexts count at their longest. Where no
step times are predicted, streams are accepted. Holds for a batching policy whose step has room for a unit of every
stream: a smaller token budget needs several steps a period, which this test does not count.
"""

from dataclasses import dataclass

from headway.core import FleetView, Request


@dataclass
class StreamUtilisation:
    """Option: the highest utilisation that is accepted."""

    limit: float = 1.0

    def admit(self, request: Request, view: FleetView) -> str | None:
        """Accept while the streams' utilisation stays within the limit."""
        if not request.period_ns:
            return None
        tokens, context, period_ns = view.stream_demand(request)
        instances = len(view.instances)
        step_ns = view.step_time_ns(-(-tokens // instances), -(-context // instances))
        if step_ns is None or step_ns <= self.limit * period_ns:
            return None
        share = step_ns / period_ns
        return f"streams would use {share:.0%} of an instance, at most {self.limit:.0%}: lower the unit rate"
