"""Copies of the vault elsewhere: what is kept, held, erased and expired here follows there. docs/replica.md."""
