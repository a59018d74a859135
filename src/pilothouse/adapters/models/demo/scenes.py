"""What the demo model does with natural prompts: each scene is written once, from its start to its end."""

from __future__ import annotations

import re
from collections.abc import Generator

from pilothouse.adapters.models.demo import script, tools
from pilothouse.adapters.models.demo.answer import Answer, Call, Result, Say, Scene, Think
from pilothouse.adapters.models.demo.conversation import Conversation
from pilothouse.adapters.models.demo.programs import BUG, GREETINGS, Program, choose

_PROGRAM = re.compile(
    r"\b(write|create|make|build|code|implement|generate|add)\b.*\b(program|script|app|tool|function|file|python|primes?|fib\w*|"
    r"fizz ?buzz|hello)\b",
    re.IGNORECASE | re.DOTALL,
)
_BUG = re.compile(r"\b(bugs?|debug|broken|failing|fix)\b", re.IGNORECASE)
_ASK = re.compile(r"\bask\b.*\b(me|question|user)\b|\bquestion\b.*\bask\b", re.IGNORECASE | re.DOTALL)
_PLAN = re.compile(r"\bplan\b", re.IGNORECASE)
_ANSWER = re.compile(r'"[^"]*"="(?P<answer>[^"]*)"')

EXPLAIN = """I am Pilothouse's built-in **demo model**: a script that stands in for a language model, so that you can \
see a real agent work in a session before you connect one. I did not understand your prompt, and I cannot: I only look \
for a few phrases. The agent around me, its tools, the approvals and the sandbox are real.

Try one of these:

- *write a small program and run it*
- *find and fix the bug*
- *ask me a question*
- *make a plan*

To connect a real model, give Pilothouse a credential and start it again:

- Anthropic: set `ANTHROPIC_API_KEY`, or `api_key` under `[model]` in `pilothouse.toml`. `ANTHROPIC_BASE_URL` names \
another endpoint that speaks the same API.
- Amazon Bedrock: set `provider = "bedrock"` and `aws_region` under `[model]`; the credentials are found the way \
the AWS tools find them.

The credential stays outside of the sessions."""


def scene(c: Conversation) -> Scene:
    """The scene for a conversation's prompt."""
    if (source := script.find(c.prompt)) is not None:
        return _scripted(c, source)
    if c.planning or _PLAN.search(c.prompt):
        return _plan(c)
    if _ASK.search(c.prompt):
        return _question()
    if _BUG.search(c.prompt):
        return _bug()
    if _PROGRAM.search(c.prompt):
        return _program(choose(c.prompt))
    return _explain(c)


def _scripted(c: Conversation, source: str) -> Scene:
    try:
        answers = script.parse(source)
    except script.ScriptError as error:
        yield (Say(f"The demo script is not right: {error}."),)
        return
    for answer in answers:
        plan = next((p for p in answer if isinstance(p, Call) and p.tool == "plan" and not p.raw), None)
        if plan is None:
            yield answer
        else:
            before = answer[: answer.index(plan)]
            yield from propose(c, str(plan.input["plan"]), before)


def _explain(c: Conversation) -> Scene:
    if c.prompt.startswith("<task-notification>"):
        yield (Say("The work in the background has ended. (Demo model)"),)
        return
    yield (Say(EXPLAIN),)


def _program(program: Program) -> Scene:
    results = yield (
        Think("A short program with output worth looking at; write it, run it, report."),
        Say(
            f"I'm the built-in demo model, so this is a prepared example: {program.about}. "
            f"First I write `{program.path}`.\n\n"
        ),
        Call("write", {"path": program.path, "content": program.source}),
    )
    if refused(results):
        yield (sorry(results, f"`{program.path}` was not written"),)
        return
    results = yield (
        Say(f"`{program.path}` is written. Now I run it.\n\n"),
        Call("bash", {"command": f"{program.run} {program.path}", "description": f"Run {program.path}"}),
    )
    if refused(results):
        yield (sorry(results, f"`{program.path}` is written but was not run"),)
        return
    ran = "It ran but ended with an error:" if results[0].is_error else "It ran and printed:"
    yield (Say(f"{ran}\n\n```\n{clip(results[0].text)}\n```\n\n{program.after}"),)


def _bug() -> Scene:
    results = yield (
        Say("I'm the built-in demo model. I only know one bug, so I first look whether it is here.\n\n"),
        Call("bash", {"command": "ls -1", "description": "List the files here"}),
    )
    if refused(results):
        yield (sorry(results, "I could not look at the files"),)
        return
    here = set(results[0].text.split())
    if not {BUG.path, BUG.test_path} <= here:
        results = yield (
            Say(
                f"It is not, so I plant it: `{BUG.path}` with a mistake, and `{BUG.test_path}`, which should pass.\n\n"
            ),
            Call("write", {"path": BUG.path, "content": BUG.source}),
            Call("write", {"path": BUG.test_path, "content": BUG.test}),
        )
        if refused(results):
            yield (sorry(results, "the files for the example were not written"),)
            return
    results = yield (Say("I run the test to see what is wrong.\n\n"), Call("bash", BUG.check))
    if refused(results):
        yield (sorry(results, "the test was not run"),)
        return
    if not results[0].is_error:
        yield (Say(f"The test passes:\n\n```\n{clip(results[0].text)}\n```\n\nThere is no bug left that I know of."),)
        return
    results = yield (Say("It fails, as expected. I read the program.\n\n"), Call("read", {"path": BUG.path}))
    if refused(results):
        yield (sorry(results, "I could not read the program"),)
        return
    results = yield (Say(BUG.diagnosis), Call("edit", {"path": BUG.path, "old": BUG.old, "new": BUG.new}))
    if refused(results):
        yield (sorry(results, "the program is unchanged and the bug still there"),)
        return
    results = yield (Say("Fixed. The test decides.\n\n"), Call("bash", BUG.check))
    if refused(results):
        yield (sorry(results, "the fix is made but not tested"),)
        return
    verdict = "still fails" if results[0].is_error else "passes now"
    yield (Say(f"The test {verdict}:\n\n```\n{clip(results[0].text)}\n```\n\n{BUG.after}"),)


def _question() -> Scene:
    results = yield (
        Say("I'm the built-in demo model. Here is a question; what I do next depends on your answer.\n\n"),
        Call(
            "ask",
            {
                "question": "In which language shall I write a greeting?",
                "header": "Language",
                "options": [
                    {"label": "Python", "description": "A program for python3"},
                    {"label": "Shell", "description": "A script for sh"},
                    {"label": "None", "description": "Only say hello, write no file"},
                ],
            },
        ),
    )
    found = _ANSWER.search(results[0].text) if results else None
    if found is None:
        told = clip(results[0].text) if results else "nothing"
        yield (Say(f"I got no answer to my question. I was told: “{told}” So I leave it at a greeting: hello!"),)
        return
    answer = found["answer"]
    program = GREETINGS.get(answer.strip().lower())
    if program is None:
        yield (Say(f"You answered “{answer}”. As a demo model I have nothing prepared for that, so: hello!"),)
        return
    yield from _greet(answer, program)


def _greet(answer: str, program: Program) -> Scene:
    results = yield (
        Say(f"You answered “{answer}”. I write `{program.path}`.\n\n"),
        Call("write", {"path": program.path, "content": program.source}),
    )
    if refused(results):
        yield (sorry(results, f"`{program.path}` was not written"),)
        return
    results = yield (Call("bash", {"command": f"{program.run} {program.path}", "description": "Run the greeting"}),)
    if refused(results):
        yield (sorry(results, "the greeting is written but was not run"),)
        return
    yield (Say(f"It says:\n\n```\n{clip(results[0].text)}\n```"),)


PLAN = """# Plan: a table of prime numbers

1. Write `primes.py`: a sieve that finds the primes below 100.
2. Run it with `python3 primes.py`.
3. Show what it printed.

Nothing else is touched. (Prepared by the demo model.)
"""


def _plan(c: Conversation) -> Scene:
    results = yield from propose(
        c, PLAN, (Say("I'm the built-in demo model; this is a prepared plan, for you to approve.\n\n"),)
    )
    if refused(results):
        yield (Say(f"The plan was not approved. I was told: “{clip(results[0].text)}” Nothing has been changed."),)
        return
    yield from _program(choose("primes"))


def propose(c: Conversation, plan: str, before: Answer = ()) -> Generator[Answer, list[Result], list[Result]]:
    """Shows a plan for approval the way the agent wants it; the last results say whether it was approved."""
    entered = any("EnterPlanMode" in turn.tools for turn in c.turns)
    if not c.planning and tools.offers(c, "enter_plan"):
        results = yield (*before, Call("enter_plan"))
        if refused(results):
            return results
        before, entered = (), True
    if not tools.offers(c, "exit_plan") or not (c.planning or entered):
        return (
            yield (
                *before,
                Say(plan),
                Call("ask", {"question": "Shall I carry out this plan?", "options": ["Yes", "No"]}),
            )
        )
    if c.plan_file:
        results = yield (*before, Call("write", {"path": c.plan_file, "content": plan}))
        if refused(results):
            return results
        before = ()
    return (yield (*before, Say("Here is the plan.\n\n"), Call("exit_plan")))


def refused(results: list[Result]) -> bool:
    return any(r.denied for r in results)


def sorry(results: list[Result], state: str) -> Say:
    words = clip(next(r.text for r in results if r.denied))
    return Say(f"That was not possible: {state}. I was told: “{words}” I stop here; tell me how to go on.")


def clip(text: str, limit: int = 2000) -> str:
    """Results quoted in an answer stay readable."""
    return text if len(text) <= limit else text[:limit] + "\n…"


__all__ = ["EXPLAIN", "propose", "scene"]
