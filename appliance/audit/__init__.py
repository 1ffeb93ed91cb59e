"""The audit: one append-only log, a Merkle tree over it, signed checkpoints, and what is made of them."""
