"""Plays a conversation's scene up to its present step."""

from __future__ import annotations

from dataclasses import dataclass

from pilothouse.adapters.models.demo import tools
from pilothouse.adapters.models.demo.answer import Answer, Call, Part, Result, Say, Scene, called
from pilothouse.adapters.models.demo.conversation import Conversation
from pilothouse.adapters.models.demo.scenes import scene


@dataclass(frozen=True, slots=True)
class Played:
    step: int
    answer: Answer
    """Its calls are bound: each has the name and the input that the agent expects."""


def play(c: Conversation) -> Played:
    if c.side:
        return Played(0, (Say(_side(c)),))
    turns = [turn for turn in c.turns if not tools.is_finder(turn.tools)]
    taken = [turn for turn in turns if not turn.cut]
    scenes = scene(c)
    names, answer = _next(c, scenes, None)
    for turn in taken:
        names, answer = _next(c, scenes, turn.results)
    if find := tools.finder(c, names, _searched(c)):
        return Played(len(taken), (Call(*find, raw=True),))
    if turns and turns[-1].cut:
        answer = _without(answer, turns[-1].text)
    if turns and turns[-1].steered:
        answer = (Say(f"You added: “{turns[-1].steered}” I take note of it; the script goes on.\n\n"), *answer)
    return Played(len(taken), answer)


def _searched(c: Conversation) -> bool:
    return bool(c.turns) and tools.is_finder(c.turns[-1].tools)


def _next(c: Conversation, scenes: Scene, results: list[Result] | None) -> tuple[list[str], Answer]:
    """The scene's next answer, bound. Calls that the agent offers no tool for become words; an answer of nothing but
    such calls would end the turn, so the one after it is added."""
    words: tuple[Part, ...] = ()
    while True:
        try:
            answer = next(scenes) if results is None else scenes.send(results)
        except StopIteration:
            return [], (*words, Say("I have nothing to add."))
        names, bound = _bound(c, answer)
        if names or not called(answer):
            return names, (*words, *bound)
        words = (*words, *bound)
        results = [Result("this tool is not offered", True) for part in answer if isinstance(part, Call)]


def _bound(c: Conversation, answer: Answer) -> tuple[list[str], Answer]:
    parts: list[Part] = []
    names: list[str] = []
    for part in answer:
        if not isinstance(part, Call):
            parts.append(part)
            continue
        try:
            name, given = tools.bind(c, part)
        except tools.NotOffered as missing:
            parts.append(Say(f"(This agent offers no tool for “{missing}”, so I leave that out.)\n\n"))
            continue
        names.append(name)
        parts.append(Call(name, given, raw=True))
    return names, tuple(parts)


def _without(answer: Answer, said: str) -> Answer:
    """The rest of an answer of which `said` has arrived."""
    parts: list[Part] = []
    for part in answer:
        if isinstance(part, Say) and said:
            common = part.text if said.startswith(part.text) else said if part.text.startswith(said) else ""
            said = said[len(common) :]
            part = Say(part.text[len(common) :])
        parts.append(part)
    return tuple(parts)


def _side(c: Conversation) -> str:
    if c.side == "summary":
        return "<summary>\nThe demo model keeps no memory: the next prompt alone decides what it does.\n</summary>"
    return '{"title": "Demo model at work"}'
