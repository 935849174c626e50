"""The PyTorch executor: Gemma-3 with paged KV. The reference engine, and the one for small machines."""
