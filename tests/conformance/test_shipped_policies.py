"""Every policy in the folders keeps the promises of its kind, in virtual and in real time."""

from __future__ import annotations

import pytest

from headway.runtime import policy_names
from headway.runtime.loader import KINDS
from headway.testing import check_policy

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in KINDS for name in policy_names(kind)]
)
def test_shipped_policy_conforms(kind: str, name: str) -> None:
    check_policy(kind, name)
