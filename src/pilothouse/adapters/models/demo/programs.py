"""The programs that the demo model writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Program:
    about: str
    path: str
    source: str
    after: str
    run: str = "python3"


_PRIMES = Program(
    "the prime numbers below 100, found with the sieve of Eratosthenes",
    "primes.py",
    '''"""Print the prime numbers below a limit, ten to a line."""

LIMIT = 100


def primes(limit):
    """The sieve of Eratosthenes."""
    composite = [False] * limit
    for n in range(2, limit):
        if composite[n]:
            continue
        yield n
        for multiple in range(n * n, limit, n):
            composite[multiple] = True


found = list(primes(LIMIT))
for start in range(0, len(found), 10):
    print(" ".join(f"{n:3}" for n in found[start : start + 10]))
print(f"{len(found)} primes below {LIMIT}")
''',
    "Each prime crosses out its multiples, starting at its own square, because smaller multiples have been crossed out "
    "already. Change `LIMIT` to see more.",
)
_FIBONACCI = Program(
    "the first Fibonacci numbers and how their ratio settles",
    "fibonacci.py",
    '''"""Print the first Fibonacci numbers and the ratio of each to the one before."""

a, b = 1, 1
for n in range(1, 16):
    print(f"{n:2}  {a:4}  {b / a:.6f}")
    a, b = b, a + b
''',
    "The last column approaches the golden ratio, 1.618034.",
)
_FIZZBUZZ = Program(
    "FizzBuzz up to 30",
    "fizzbuzz.py",
    '''"""Fizz for multiples of three, Buzz for multiples of five."""

for n in range(1, 31):
    print("Fizz" * (n % 3 == 0) + "Buzz" * (n % 5 == 0) or n)
''',
    "A string times `True` is the string, times `False` is empty, and `or` falls back to the number.",
)
_HELLO = Program(
    "a greeting with the Python version and the place it runs in",
    "hello.py",
    '''"""Say hello, and from where."""

import os
import platform

print("Hello from inside of the session!")
print("Python", platform.python_version(), "on", platform.system(), "in", os.getcwd())
''',
    "The directory is the session's workspace.",
)
_BY_WORD = {"fib": _FIBONACCI, "fizz": _FIZZBUZZ, "hello": _HELLO, "greet": _HELLO}


def choose(prompt: str) -> Program:
    """The prepared program that a prompt sounds most like; the primes when it names none."""
    return next((program for word, program in _BY_WORD.items() if word in prompt.lower()), _PRIMES)


GREETINGS = {
    "python": Program("a greeting", "greet.py", 'print("Hello! You chose Python.")\n', ""),
    "shell": Program("a greeting", "greet.sh", 'echo "Hello! You chose the shell."\n', "", run="sh"),
}


@dataclass(frozen=True, slots=True)
class Bug:
    path: str
    source: str
    test_path: str
    test: str
    old: str
    new: str
    check: dict[str, Any]
    diagnosis: str
    after: str


BUG = Bug(
    path="median.py",
    source='''"""The median of a list of numbers."""


def median(numbers):
    ordered = sorted(numbers)
    middle = len(ordered) // 2
    return ordered[middle]
''',
    test_path="test_median.py",
    test='''"""What the median must be."""

import unittest

from median import median


class Median(unittest.TestCase):
    def test_odd(self):
        self.assertEqual(median([3, 1, 2]), 2)

    def test_even(self):
        self.assertEqual(median([4, 1, 3, 2]), 2.5)


unittest.main(verbosity=2)
''',
    old="    return ordered[middle]\n",
    new="""    if len(ordered) % 2 == 0:
        return (ordered[middle - 1] + ordered[middle]) / 2
    return ordered[middle]
""",
    check={"command": "python3 test_median.py", "description": "Run the test"},
    diagnosis="`median` takes the upper of the two middle numbers when their count is even; it has to be their mean. I "
    "change that and nothing else.\n\n",
    after="With an even count the median is the mean of the two middle numbers; it was the upper one.",
)
