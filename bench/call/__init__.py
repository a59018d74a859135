"""What `headless.py` is made of."""
