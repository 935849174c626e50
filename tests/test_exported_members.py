"""The public names: what each package's `__all__` exports, and what importing headway costs."""

import importlib
import importlib.util
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import headway

PACKAGES = sorted(
    module.name for module in pkgutil.walk_packages(headway.__path__, "headway.") if module.ispkg
)
EXPORTERS = ["headway", *PACKAGES]


def loaded_by(*arguments: str) -> set[str]:
    """Top-level modules in `sys.modules` after a fresh interpreter ran the arguments."""
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('\\nloaded', *{name.split('.')[0] for name in sys.modules}))\n"
    )
    code += "\n".join(arguments)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("name", EXPORTERS)
def test_all_is_what_the_package_exports(name: str) -> None:
    package = importlib.import_module(name)
    exported: list[str] = getattr(package, "__all__", [])
    missing = [member for member in exported if not hasattr(package, member)]
    assert not missing
    assert len(exported) == len(set(exported))
    # Whatever a package's __init__ brings in by name is an export, or should not be there.
    if exported and name != "headway":
        assert not public_members(package) - set(exported)


def public_members(package: ModuleType) -> set[str]:
    return {
        name
        for name, value in vars(package).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and str(getattr(value, "__module__", "")).startswith("headway.")
    }


def test_importing_headway_loads_neither_numpy_nor_torch() -> None:
    assert not {"numpy", "torch", "typer", "rich"} & loaded_by("import headway")


def test_help_loads_neither_numpy_nor_torch() -> None:
    run = "import sys; sys.argv = ['headway', '--help']; from headway.cli import main; main()"
    assert not {"numpy", "torch", "plotly"} & loaded_by(run)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = headway.nonsense


def test_lazy_names_are_listed_and_kept() -> None:
    assert set(headway.__all__) <= set(dir(headway))
    assert headway.simulate is headway.simulate
