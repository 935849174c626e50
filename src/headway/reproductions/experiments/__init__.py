"""One file a claim: its name is the system's, its `EXPERIMENT` says how the claim is measured."""
