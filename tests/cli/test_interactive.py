"""Approvals and questions in place, on a real pseudo-terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import termios
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cli.conftest import Pilothouse
from tests.cli.fake import APPROVAL, QUESTION, FakeServer

PATIENCE_S = 30


class Person:
    """Reads the screen and types."""

    def __init__(self, pilothouse: Pilothouse) -> None:
        self._pilothouse = pilothouse
        self.screen = ""

    async def runs(self, *args: str) -> None:
        self._fd, inner = pty.openpty()
        attributes = termios.tcgetattr(inner)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(inner, termios.TCSANOW, attributes)
        self.child = await self._pilothouse.start(*args, stdin=inner, stdout=inner, stderr=inner)
        os.close(inner)
        self._grown = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # the other side of the terminal is closed
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._fd)
        self.screen += data.decode().replace("\r\n", "\n")
        self._grown.set()

    async def sees(self, words: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while words not in self.screen:
                self._grown.clear()
                await self._grown.wait()

    def types(self, words: str) -> None:
        os.write(self._fd, words.encode())

    async def ends(self) -> int:
        async with asyncio.timeout(PATIENCE_S):
            return await self.child.wait()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        if self.child.returncode is None:
            self.child.kill()


@pytest.fixture
async def person(pilothouse: Pilothouse) -> AsyncIterator[Person]:
    someone = Person(pilothouse)
    yield someone
    someone.close()
    await someone.child.wait()


def decided(server: FakeServer, **wanted: object) -> None:
    """When the decision arrives the log goes on, as the real server's does."""

    def on_decide(body: dict[str, object]) -> None:
        outcome = "approved" if body["approved"] else "denied"
        server.append(server.event("approval_resolved", approvalId=APPROVAL, outcome=outcome, by="me"))
        server.append(server.complete())

    server.on_decide = on_decide


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("y\n", {"approved": True}),
        ("n\n", {"approved": False}),
        ("n use make clean\n", {"approved": False, "message": "use make clean"}),
        ("2\n", {"approved": True, "optionId": "session"}),
        ("3\n", {"approved": False, "optionId": "no"}),
        ("what?\n9\ny\n", {"approved": True}),
    ],
)
async def test_the_typed_answer_is_sent_with_the_hash(
    person: Person, server: FakeServer, typed: str, sent: dict[str, object]
) -> None:
    server.script = [server.ask()]
    decided(server)
    await person.runs("run", "hello")
    await person.sees("approve? [y/n/e/number] ")
    assert "rm -rf build" in person.screen
    person.types(typed)
    assert await person.ends() == 0
    [body] = server.asked("POST", f"/api/approvals/{APPROVAL}")
    assert body == {**sent, "inputHash": server.approvals[APPROVAL]["inputHash"]}


async def test_hidden_characters_of_the_input_are_shown(person: Person, server: FakeServer) -> None:
    patch = "@@ -1 +1 @@\n-a\n+b\u200b\u2066c\n"
    server.script = [
        server.ask(
            input={"command": "rm \x1b[8m-rf /\u202e\u200b #\u00a0\ntrue"},
            diff=[{"path": "x\u202ey", "kind": "edit", "patch": patch}],
        )
    ]
    decided(server)
    await person.runs("run", "hello")
    await person.sees("approve? ")
    assert "<U+001B>[8m-rf /<U+202E><U+200B> #<U+00A0>" in person.screen
    assert "x<U+202E>y" in person.screen
    assert "b<U+200B><U+2066>c" in person.screen
    assert not re.search("[\u202e\u200b\u2066\u00a0]", person.screen)
    person.types("y\n")
    assert await person.ends() == 0


async def test_what_was_typed_before_the_card_answers_nothing(person: Person, server: FakeServer) -> None:
    decided(server)
    server.script = [server.event("stream", content="thinking about it", messageId="m")]
    await person.runs("run", "hello")
    await person.sees("thinking about it")
    person.types("y\ny\n")
    server.append(server.ask())
    await person.sees("approve? ")
    assert not server.asked("POST", f"/api/approvals/{APPROVAL}")
    person.types("n\n")
    assert await person.ends() == 0
    [body] = server.asked("POST", f"/api/approvals/{APPROVAL}")
    assert body["approved"] is False


async def test_an_edited_input_is_shown_again_and_sent(
    person: Person, pilothouse: Pilothouse, server: FakeServer, tmp_path: Path
) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nprintf \'{"command": "rm -r build/cache"}\' > "$1"\n')
    editor.chmod(0o755)
    pilothouse.env["EDITOR"] = str(editor)
    server.script = [server.ask()]
    decided(server)
    await person.runs("run", "hello")
    await person.sees("approve? ")
    person.screen = ""
    person.types("e\n")
    await person.sees("approve? ")
    assert "rm -r build/cache" in person.screen
    person.types("y\n")
    assert await person.ends() == 0
    [body] = server.asked("POST", f"/api/approvals/{APPROVAL}")
    assert body["updatedInput"] == {"command": "rm -r build/cache"}


async def test_an_edit_that_is_no_object_is_not_used(
    person: Person, pilothouse: Pilothouse, server: FakeServer, tmp_path: Path
) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nprintf '[1' > \"$1\"\n")
    editor.chmod(0o755)
    pilothouse.env["EDITOR"] = str(editor)
    server.script = [server.ask()]
    decided(server)
    await person.runs("run", "hello")
    await person.sees("approve? ")
    person.types("e\n")
    await person.sees("must be a JSON object")
    person.types("y\n")
    assert await person.ends() == 0
    [body] = server.asked("POST", f"/api/approvals/{APPROVAL}")
    assert "updatedInput" not in body


async def test_an_answer_from_elsewhere_ends_the_asking(person: Person, server: FakeServer) -> None:
    server.script = [server.ask()]
    await person.runs("run", "hello")
    await person.sees("approve? ")
    server.append(server.event("approval_resolved", approvalId=APPROVAL, outcome="denied", by="Ann"))
    server.append(server.complete())
    assert await person.ends() == 0
    assert "denied by Ann" in person.screen
    assert not server.asked("POST", f"/api/approvals/{APPROVAL}")


async def test_a_question_is_answered_in_place(person: Person, server: FakeServer) -> None:
    options = [{"label": "Red", "description": "warm"}, {"label": "Blue"}]
    questions = [
        {"question": "Which colour?", "options": options},
        {"question": "Which two?", "multi": True, "options": options},
        {"question": "Why?", "options": []},
    ]
    server.script = [server.event("question", questionId=QUESTION, questions=questions)]

    def on_decide(body: dict[str, object]) -> None:
        server.append(server.event("question_answered", questionId=QUESTION, answers={}, by="me", outcome="answered"))
        server.append(server.complete())

    server.on_decide = on_decide
    await person.runs("run", "hello")
    for asked, typed in (("Which colour?", "2\n"), ("Which two?", "1,2\n"), ("Why?", "because\n")):
        await person.sees(asked)
        person.types(typed)
    assert await person.ends() == 0
    [body] = server.asked("POST", f"/api/questions/{QUESTION}")
    assert body["answers"] == {"Which colour?": "Blue", "Which two?": "Red, Blue", "Why?": "because"}


async def test_colours_on_a_terminal_and_none_with_no_color(
    person: Person, pilothouse: Pilothouse, server: FakeServer
) -> None:
    server.script = [server.complete()]
    await person.runs("run", "hello")
    assert await person.ends() == 0
    await person.sees("\x1b[32msucceeded")
    pilothouse.env["NO_COLOR"] = "1"
    other = Person(pilothouse)
    await other.runs("run", "hello")
    assert await other.ends() == 0
    await other.sees("succeeded")
    assert "\x1b" not in other.screen
    other.close()


async def test_a_conversation_line_by_line(person: Person, server: FakeServer) -> None:
    server.script = [server.event("stream", content="an answer", messageId="m"), server.complete()]
    await person.runs("chat")
    await person.sees("> ")
    person.types("first\n")
    await person.sees("succeeded")
    person.screen = ""
    person.types("second\n")
    await person.sees("succeeded")
    person.types("\n")
    assert await person.ends() == 0
    prompts = [body["prompt"] for m, p, body in server.calls if m == "POST" and p.endswith("/jobs")]
    assert prompts == ["first", "second"]
