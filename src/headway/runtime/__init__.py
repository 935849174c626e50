"""The machinery shared by every world: instance, block accounting, prefix index, fleet, policy loader."""

from headway.runtime.fleet import Fleet
from headway.runtime.instance import Instance, InstanceOptions
from headway.runtime.loader import load_policy, policy_names
from headway.runtime.local_port import LocalPort

__all__ = ["Fleet", "Instance", "InstanceOptions", "LocalPort", "load_policy", "policy_names"]
