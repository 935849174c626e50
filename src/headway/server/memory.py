"""How much memory there is for a model, and whether it fits: asked before anything is allocated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headway.errors import DoesNotFitError

_GIB = 1 << 30
_MARGIN = 0.05  # of what is available: left to everybody else
_ROOT = Path("/")
LEAST_KV_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Need:
    """What one deployment takes, in bytes. `base_bytes`: interpreter, libraries and intermediate tensors.

    With `drafts`, weights and KV are those of two models.
    """

    weight_bytes: int
    kv_bytes_per_token: int
    instances: int = 1
    drafts: bool = False
    base_bytes: int = 400 << 20

    def bytes(self, kv_tokens: int) -> int:
        """Of all instances, when each holds the KV of so many tokens."""
        return self.instances * (
            self.base_bytes + self.weight_bytes + self.kv_bytes_per_token * kv_tokens
        )


def available_bytes(root: Path = _ROOT) -> int | None:
    """Memory that can be had without swapping: the machine's, or the control group's where that is less.

    None where the system does not say. `root` stands for / in tests.
    """
    found = [*_machine(root), *_control_group(root)]
    return min(found) if found else None


def kv_tokens_that_fit(need: Need, wanted: int, *, fixed: bool, available: int | None) -> int:
    """`wanted` tokens of KV an instance, or as many as there is room for unless the number is `fixed`.

    Raises:
        DoesNotFitError: says what is needed, what there is, and what to change.
    """
    if available is None:
        return wanted
    room = int(available * (1 - _MARGIN))
    if need.bytes(wanted) <= room:
        return wanted
    least = need.bytes(LEAST_KV_TOKENS)
    if not fixed and least <= room:
        left = room // need.instances - need.base_bytes - need.weight_bytes
        return min(wanted, left // need.kv_bytes_per_token)
    both = " of both models" if need.drafts else ""
    parts = (
        f"{need.weight_bytes / _GIB:.1f} GiB weights{both}, "
        f"{need.kv_bytes_per_token * wanted / _GIB:.1f} GiB KV for {wanted} tokens, "
        f"{need.base_bytes / _GIB:.1f} GiB for the rest"
    )
    times = f", {need.instances} times" if need.instances > 1 else ""
    advice = "give less --kv-memory" if least <= room else "choose a smaller model"
    if need.drafts:
        advice += ", or no --draft-model"
    if need.instances > 1:
        advice += " or fewer --instances"
    raise DoesNotFitError(
        f"needs {need.bytes(wanted) / _GIB:.1f} GiB of memory ({parts}{times}), "
        f"{room / _GIB:.1f} GiB can be had: {advice}"
    )


def host_blocks_that_fit(
    need: Need, kv_tokens: int, block_tokens: int, *, available: int | None
) -> int | None:
    """Blocks of KV an instance may copy elsewhere in memory once it has `kv_tokens`; None: nobody knows."""
    if available is None:
        return None
    room = int(available * (1 - _MARGIN)) - need.bytes(kv_tokens)
    each = need.kv_bytes_per_token * block_tokens * need.instances
    return max(0, room // each)


def _machine(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            yield int(rest.split()[0]) * 1024


def _control_group(root: Path) -> Iterator[int]:
    """The room in every control group from ours up to the root, file cache counted as free."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, limit, used, cache = (
                "sys/fs/cgroup",
                "memory.max",
                "memory.current",
                "inactive_file",
            )
        elif "memory" in controllers.split(","):
            base = "sys/fs/cgroup/memory"
            limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
            cache = "total_inactive_file"
        else:
            continue
        top = root / base
        folder = top / path.lstrip("/")
        for group in (folder, *folder.parents):
            if not group.is_relative_to(top):
                break
            most, now = _number(group / limit), _number(group / used)
            if most is not None and now is not None and most < 1 << 60:
                yield max(0, most - now + _statistic(group / "memory.stat", cache))


def _statistic(file: Path, name: str) -> int:
    for line in _lines(file):
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def _number(file: Path) -> int | None:
    text = next(iter(_lines(file)), "")
    return int(text) if text.isdigit() else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("ascii", "replace").splitlines()
    except OSError:
        return []
