"""What a host is told before it starts. Plain data: it crosses a socket."""

from __future__ import annotations

import msgspec


class HostSpec(msgspec.Struct, frozen=True):
    """One instance of one model, and the policies it runs, by name."""

    model: str = "embedded"  # embedded | a directory or .gguf file
    batching: str = "sarathi"
    ordering: str = "fcfs"
    memory: str = "recompute"
    options: dict[str, str] = {}  # "policy.option" -> value
    blocks: int = 1024
    block_tokens: int = 16
    threads: int = 0  # of PyTorch; 0: its own choice
    ignore_eos: bool = False
    name: str = "i0"
    seed: int = 0
    report_interval_ns: int = 100_000_000

    def options_of(self, policy: str) -> dict[str, str]:
        """Options meant for `policy`."""
        marked = f"{policy}."
        return {k.removeprefix(marked): v for k, v in self.options.items() if k.startswith(marked)}
