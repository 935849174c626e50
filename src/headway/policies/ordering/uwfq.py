"""User-weighted fair queueing: run in the order in which a fluid fair system would finish.

In the fluid system tenants share the instance equally, and a tenant's requests share its part. A request's key is the
virtual time at which the tenant's requests, done one after the other in the order of their own virtual deadlines, reach
its end. Light tenants' requests therefore end as if heavy ones did not exist, and within a tenant the short go first.

Source: the two-level virtual time of user-weighted fair queueing (UWFQ), made for Spark jobs; carried to serving: a job
is a request, its work what its prompt and expected output take alone. Differs: expected output is the mean of the
tenant's ended requests (`expected_output` before the first); weights are equal; a tenant that returns within the grace
keeps its place, counted in virtual time.
Cost: O(requests of the tenant) per arrival, O(tenants) per event.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import ClassVar

from headway.core import NS_PER_MS, Request, Sequence


@dataclass
class _Job:
    deadline: float  # virtual, within the tenant
    id: int
    work: float  # ns alone
    finish: float = 0.0  # virtual, global

    def __lt__(self, other: _Job) -> bool:
        return (self.deadline, self.id) < (other.deadline, other.id)


@dataclass
class _Tenant:
    start: float  # global virtual time at which it came
    end: float = 0.0  # ... at which its fluid work is over
    time: float = 0.0  # its own virtual time
    jobs: list[_Job] = field(default_factory=list)


@dataclass
class UserWeightedFairQueueing:
    """Options: time a prompt token and an output token take, the output nobody knows yet, and the grace."""

    dynamic: ClassVar[bool] = True

    prefill_ms: float = 0.05
    decode_ms: float = 1.0  # a token's part of a step, in a batch
    expected_output: int = 200
    grace_ms: float = 3000.0
    _tenants: dict[str, _Tenant] = field(default_factory=dict, init=False, repr=False)
    _keys: dict[int, float] = field(default_factory=dict, init=False, repr=False)
    _outputs: dict[str, tuple[int, int]] = field(default_factory=dict, init=False, repr=False)
    _now: float = field(default=0.0, init=False, repr=False)
    _virtual: float = field(default=0.0, init=False, repr=False)

    def key(self, sequence: Sequence) -> tuple[float, ...]:
        """Its virtual finish, then arrival."""
        request = sequence.request
        virtual = self._keys.get(request.id, float(request.arrival_ns))
        return virtual, request.arrival_ns, request.id

    def on_submit(self, sequence: Sequence) -> None:
        """Enter a job into the fluid system."""
        request = sequence.request
        self._advance(float(request.arrival_ns))
        self._forget()
        tenant = self._tenants.get(request.tenant)
        if tenant is None:
            tenant = self._tenants[request.tenant] = _Tenant(self._virtual)
        elif not tenant.jobs:
            tenant.start = max(tenant.start, min(tenant.end, self._virtual))
        work = NS_PER_MS * (
            request.prompt_tokens * self.prefill_ms + self._expected(request) * self.decode_ms
        )
        insort(tenant.jobs, _Job(tenant.time + work, request.id, work))
        self._chain(tenant)

    def on_end(self, sequence: Sequence, outcome: str) -> None:
        """Learn how long this tenant's outputs are. The fluid system goes on by itself."""
        request = sequence.request
        self._keys.pop(request.id, None)
        if outcome != "finished":
            return  # how long it would have become, nobody knows
        count, tokens = self._outputs.get(request.tenant, (0, 0))
        self._outputs[request.tenant] = (count + 1, tokens + sequence.output_tokens)

    def _expected(self, request: Request) -> float:
        count, tokens = self._outputs.get(request.tenant, (0, 0))
        return min(request.max_tokens, tokens / count if count else self.expected_output)

    def _forget(self) -> None:
        """Tenants that left the fluid system longer than the grace ago start anew."""
        gone = self._virtual - self.grace_ms * NS_PER_MS
        for name in [n for n, t in self._tenants.items() if not t.jobs and t.end < gone]:
            del self._tenants[name]

    def _chain(self, tenant: _Tenant) -> None:
        """A tenant's jobs finish one after the other."""
        at = tenant.start
        for job in tenant.jobs:
            at += job.work
            job.finish = self._keys[job.id] = at
        tenant.end = at

    def _advance(self, now: float) -> None:
        """Let the fluid system run until `now`."""
        left = now - self._now
        self._now = max(self._now, now)
        while left > 0:
            active = [tenant for tenant in self._tenants.values() if tenant.jobs]
            if not active:
                self._virtual += left
                return
            first = min(active, key=lambda tenant: tenant.end)
            need = max(0.0, first.end - self._virtual) * len(active)
            spent = min(left, need)
            self._virtual += spent / len(active)
            for tenant in active:
                self._serve(tenant, spent / len(active))
            left -= spent
            if spent >= need:
                first.jobs.clear()

    @staticmethod
    def _serve(tenant: _Tenant, share: float) -> None:
        """A tenant's own virtual time; jobs that reach their deadline leave and spend its slot."""
        while share > 0 and tenant.jobs:
            job = tenant.jobs[0]
            need = max(0.0, job.deadline - tenant.time) * len(tenant.jobs)
            spent = min(share, need)
            tenant.time += spent / len(tenant.jobs)
            share -= spent
            if spent >= need:
                tenant.jobs.pop(0)
                tenant.start += job.work
