"""The PyTorch executor: dense decoders with paged KV. The reference engine, and the one for small machines."""
