"""The benchmark: seqlab beside PyTorch, JAX and mambapy, and beside the floor of the machine.

A case of `cases.toml` is a list of jobs; a job measures some rows; rows make tables. Only
`seqlab.bench.peers` names the peers.
"""
