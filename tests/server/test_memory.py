"""Whether a model fits is known before anything is allocated."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from headway.errors import DoesNotFitError
from headway.server.memory import (
    LEAST_KV_TOKENS,
    Need,
    available_bytes,
    host_blocks_that_fit,
    kv_tokens_that_fit,
)

GIB = 1 << 30


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_the_machine_says_what_is_available(tmp_path: Path) -> None:
    assert available_bytes(tmp_path) is None
    write(tmp_path, {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    2048 kB\n"})
    assert available_bytes(tmp_path) == 2048 * 1024


@pytest.mark.parametrize(
    "files",
    [
        {
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/memory.max": "1000000\n",  # of the group above ours
            "sys/fs/cgroup/a/memory.current": "600000\n",
            "sys/fs/cgroup/a/memory.stat": "anon 5\ninactive_file 100000\n",
            "sys/fs/cgroup/a/b/memory.max": "max\n",
            "sys/fs/cgroup/a/b/memory.current": "600000\n",
        },
        {
            "proc/self/cgroup": "12:cpu:/x\n4:memory:/a\n",
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1000000\n",
            "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "600000\n",
            "sys/fs/cgroup/memory/a/memory.stat": "total_inactive_file 100000\n",
        },
    ],
)
def test_a_control_group_may_leave_less(tmp_path: Path, files: dict[str, str]) -> None:
    write(tmp_path, {"proc/meminfo": "MemAvailable: 1000000 kB\n", **files})
    assert available_bytes(tmp_path) == 500_000


@given(
    weights=st.integers(0, 50 * GIB),
    each=st.integers(1, 1 << 20),
    instances=st.integers(1, 4),
    wanted=st.integers(LEAST_KV_TOKENS, 1 << 20),
    available=st.integers(0, 64 * GIB),
    fixed=st.booleans(),
)
def test_what_is_granted_fits_and_what_does_not_fit_is_refused(
    *, weights: int, each: int, instances: int, wanted: int, available: int, fixed: bool
) -> None:
    need = Need(weights, each, instances)
    try:
        tokens = kv_tokens_that_fit(need, wanted, fixed=fixed, available=available)
    except DoesNotFitError:
        tokens = 0
    if not tokens:
        assert need.bytes(wanted if fixed else LEAST_KV_TOKENS) > available * 0.94
        return
    assert need.bytes(tokens) <= available
    assert tokens == wanted if fixed else LEAST_KV_TOKENS <= tokens <= wanted
    beside = host_blocks_that_fit(need, tokens, 16, available=available)
    assert beside is not None
    assert need.bytes(tokens + beside * 16) <= available, "with all copies that there may be"
    assert need.bytes(tokens + (beside + 1) * 16) > available * 0.94


@pytest.mark.parametrize(
    ("need", "advice"),
    [
        (Need(GIB, 1 << 20), "give less --kv-memory"),
        (Need(90 * GIB, 1 << 20), "choose a smaller model"),
        (Need(GIB, 1 << 20, 8), "fewer --instances"),
    ],
)
def test_a_refusal_says_what_to_change(need: Need, advice: str) -> None:
    with pytest.raises(DoesNotFitError, match=f"needs .* GiB.*can be had: .*{advice}"):
        kv_tokens_that_fit(need, 1 << 20, fixed=True, available=8 * GIB)


def test_where_nobody_knows_nothing_is_refused() -> None:
    assert kv_tokens_that_fit(Need(1 << 50, 1), 5000, fixed=True, available=None) == 5000
    assert host_blocks_that_fit(Need(1 << 50, 1), 5000, 16, available=None) is None
