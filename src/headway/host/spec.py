"""What a host is told before it starts. Plain data: it crosses a socket."""

from __future__ import annotations

import msgspec

LIVE, SIM = "live", "sim"


class SimSpec(msgspec.Struct, frozen=True):
    """Where a simulated host takes step times from, and what it says.

    `profile` is a file of measured step times; without one, times come from the sheets of the host's model
    and of `gpu`. Outputs are as long as `max_tokens` allows, or drawn with mean `output_tokens`.
    """

    gpu: str = "h100"
    precision: str | None = None
    tp: int = 1
    profile: str = ""
    output_tokens: int = 0  # 0: as long as max_tokens
    ids: tuple[int, ...] = ()  # tokens are drawn from these; none: any below 32 000


class HostSpec(msgspec.Struct, frozen=True):
    """One instance of one model, and the policies it runs, by name.

    `model` is `embedded`, a directory or a .gguf file; in the simulated world a model sheet's name or file. So is
    `draft_model`; without one, drafts are looked up in the text, and cost nothing in the simulated world.
    """

    model: str = "embedded"
    batching: str = "sarathi"
    ordering: str = "fcfs"
    memory: str = "recompute"
    speculation: str = "none"
    draft_model: str = ""  # with the same vocabulary
    options: dict[str, str] = {}  # "policy.option" or "kind.option" -> value
    blocks: int = 1024
    block_tokens: int = 16
    threads: int = 0  # of PyTorch; 0: its own choice
    ignore_eos: bool = False
    name: str = "i0"
    seed: int = 0
    report_interval_ns: int = 100_000_000
    world: str = LIVE
    sim: SimSpec = SimSpec()
    profile: str = ""  # file of step times that live policies predict with; none: no predictions
    dtype: str = "float32"  # or bfloat16, or auto: whichever the processor multiplies faster
    prefix_cache: bool = True
    salted: bool = True  # no prefix is shared between tenants
    prefix_key: bytes = (
        b""  # what prompts are named with, so that answers can be; none: they are not
    )
    host_blocks: int | None = None  # KV that may lie beside the instance's own; None: no limit
    run_log: str = ""  # a file that every submit, step and end is written to; none: no log
    environment: dict[str, str] = {}  # beside what the parent's own has

    def options_of(self, policy: str, kind: str = "") -> dict[str, str]:
        """Options meant for `policy`, a name, `pkg.mod:Class` or file, or for whatever is of `kind`."""
        where, _, wanted = policy.partition(":")
        label = where.rpartition("/")[2].removesuffix(".py") if where.endswith(".py") else policy
        owners = {policy, wanted or label} | ({kind} if kind else set())
        found = {}
        for key, value in self.options.items():
            owner, _, option = key.rpartition(".")
            if owner in owners:
                found[option] = value
        return found
