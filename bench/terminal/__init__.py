"""What `bench/terminals.py` runs: the load client, the contenders, and the peers' servers."""
