"""The escape suite: attacks run inside a real session against canaries that were planted outside of it.

`suite` is what runs inside (with the session's own Python, so standard library only), one module per group of checks
beside it. `canary` is the program outside that is attacked, `planted` plants it and the files, `examine` runs the whole
and `profiles` says what may fail where.
"""
