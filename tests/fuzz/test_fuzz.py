"""The short form of `make fuzz`: the corpus as it is, then what is like it, against the core and against the server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz import cases, rules
from tests.fuzz.house import House, house

quick = settings(
    max_examples=150, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
slow = settings(quick, max_examples=60, phases=[Phase.generate, Phase.shrink])


@pytest.fixture(scope="module", params=[True, False], ids=["hot", "plain"])
def there(request: pytest.FixtureRequest) -> Iterator[tuple[asyncio.Runner, House]]:
    with asyncio.Runner() as runner:
        server = house(hot=request.param)
        one = runner.run(server.__aenter__())
        yield runner, one
        runner.run(server.__aexit__(None, None, None))


@pytest.mark.parametrize("name", sorted(cases.corpus("frames")))
def test_the_corpus_of_frames(name: str) -> None:
    rules.conversation([cases.corpus("frames")[name]] * 2)


@pytest.mark.parametrize("name", sorted(cases.corpus("bodies")))
def test_the_corpus_of_bodies(name: str) -> None:
    rules.body(cases.corpus("bodies")[name])


@quick
@given(st.lists(cases.frames, max_size=10))
def test_any_conversation_with_the_core(frames: list[bytes]) -> None:
    rules.conversation(frames)


@quick
@given(cases.bodies)
def test_any_body(body: bytes) -> None:
    rules.body(body)


@quick
@given(cases.channel)
def test_any_channel(text: str) -> None:
    rules.channel(text)


@quick
@given(cases.anything)
def test_any_answer_of_a_handler(answer: object) -> None:
    rules.answer(answer)
    rules.answer({"events": [{"id": "ID", "payload": answer}, {"id": "other", "error": answer}]})


def test_the_corpus_with_the_server(there: tuple[asyncio.Runner, House]) -> None:
    runner, one = there
    every = [cases.Packet(data) for data in cases.corpus("frames").values()]
    for start in range(0, len(every), 15):  # fewer than may be published in a second
        runner.run(one.connection(cases.GOOD, every[start : start + 15]))
    for data in cases.corpus("bodies").values():
        runner.run(one.post(cases.Post(data, (("x-api-key", cases.KEY),))))


FOUND = {
    "two texts that are no utf-8, in one write": [cases.Packet(b"\xff"), cases.Packet(b"\xff")],
    "a text that is no utf-8, and the end": [cases.Packet(b"\xff"), cases.Packet(b"\x03\xe8", cases.CLOSE)],
}


@pytest.mark.parametrize("name", sorted(FOUND))
def test_what_was_found_on_the_wire(there: tuple[asyncio.Runner, House], name: str) -> None:
    runner, one = there
    for _ in range(5):
        runner.run(one.connection(cases.GOOD, FOUND[name]))


@slow
@given(cases.openings, cases.packets)
def test_c30_any_connection(
    there: tuple[asyncio.Runner, House], opening: cases.Opening, packets: list[cases.Packet]
) -> None:
    runner, one = there
    runner.run(one.connection(opening, packets))


@slow
@given(cases.posts)
def test_c30_any_request(there: tuple[asyncio.Runner, House], post: cases.Post) -> None:
    runner, one = there
    runner.run(one.post(post))
