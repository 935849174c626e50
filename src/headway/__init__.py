"""headway: an SLO-first LLM serving engine and simulator that run the same policy files.

Four files to read first, in this order:

1. `core/request.py`: what a client asks and what it was promised.
2. `core/plan.py`: what a policy decides, what an executor is given, and what comes back.
3. `runtime/instance.py`: the event-driven machine between the two, the same in every world.
4. `policies/batching/sarathi.py`: a whole policy; yours would be a file beside it.

`docs/architecture.md` follows one request through all of them. Importing headway is cheap: the names
below are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headway.api import Result, compare, simulate

__all__ = ["Result", "__version__", "compare", "simulate"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Load `headway.api` when one of its names is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'headway' has no attribute {name!r}")
    from headway import api

    value: object = getattr(api, name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
