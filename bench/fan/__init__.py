"""What `bench/fanout.py` runs: the load client, the contenders, and the peers' servers."""
