"""Pilothouse: coding agents in isolated sessions, driven from a browser, curl, a command line or AWS clients."""

__version__ = "0.1.0"
