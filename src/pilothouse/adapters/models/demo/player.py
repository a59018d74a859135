"""Plays a conversation's scene up to its present step."""

from __future__ import annotations

from dataclasses import dataclass

from pilothouse.adapters.models.demo import tools
from pilothouse.adapters.models.demo.answer import Answer, Call, Part, Say
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
    searched = 0
    for turn in reversed(c.turns):
        if not tools.is_finder(turn.tools):
            break
        searched += 1
    scenes = scene(c)
    answer = next(scenes)
    for turn in turns:
        try:
            answer = scenes.send(turn.results)
        except StopIteration:
            answer = (Say("I have nothing to add."),)
            break
    if turns and turns[-1].steered:
        answer = (Say(f"You added: “{turns[-1].steered}” I take note of it; the script goes on.\n\n"), *answer)
    return Played(len(turns), _bound(c, answer, searched))


def _bound(c: Conversation, answer: Answer, searched: int) -> Answer:
    parts: list[Part] = []
    names: list[str] = []
    for part in answer:
        if not isinstance(part, Call):
            parts.append(part)
            continue
        try:
            name, given = tools.bind(c, part)
        except tools.NotOffered as missing:
            parts.append(Say(f"(This agent offers no tool for “{missing}”, so I leave that out.) "))
            continue
        names.append(name)
        parts.append(Call(name, given, raw=True))
    if find := tools.finder(c, names, searched):
        return (Call(*find, raw=True),)
    return tuple(parts)


def _side(c: Conversation) -> str:
    if c.side == "summary":
        return "<summary>\nThe demo model keeps no memory: the next prompt alone decides what it does.\n</summary>"
    return '{"title": "Demo model at work"}'
