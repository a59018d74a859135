"""The OpenAPI document: every route is in it, its examples are what it says, and so is what the handlers answer."""

from __future__ import annotations

import copy
import hashlib
import html.parser
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import jsonschema
import pytest
import pytest_asyncio
from openapi_spec_validator import validate

from pilothouse.core import invoke
from pilothouse.core.errors import BadRequest, PilothouseError
from pilothouse.web import openapi, reference
from pilothouse.web.front import Front
from pilothouse.web.operations import OPERATIONS
from pilothouse.web.routes import TABLE
from tests.web.serving import serving
from tests.web.world import World

DOCUMENT = openapi.document(TABLE)
OPERATION = {
    (method.upper(), path): operation for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
}


def check(schema: dict[str, Any], value: object, components: dict[str, Any] = DOCUMENT["components"]) -> None:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator({**schema, "components": components}, format_checker=checker).validate(value)


def test_every_route_is_in_it_and_nothing_else() -> None:
    told = [(o.method, o.path) for o in OPERATIONS]
    assert sorted(told) == sorted((e.method, e.path) for e in TABLE)
    shown = set(OPERATION) | {("WS", path) for path in DOCUMENT["x-websockets"]}
    assert shown == {(method, path.replace(":path}", "}")) for method, path in told}


def test_it_is_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    validate(copy.deepcopy(DOCUMENT))
    names = [operation["operationId"] for operation in OPERATION.values()]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[A-Z][A-Za-z]+", name) for name in DOCUMENT["components"]["schemas"])


@pytest.mark.parametrize("place", OPERATION, ids=" ".join)
def test_an_operation_is_told_in_full(place: tuple[str, str]) -> None:
    operation = OPERATION[place]
    assert operation["summary"]
    assert operation["responses"]
    in_path = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
    assert in_path == set(re.findall(r"\{(\w+)\}", place[1]))
    entry = next(e for e in TABLE if (e.method, e.path.replace(":path}", "}")) == place)
    assert bool(operation["security"]) == (entry.policy != "public")
    if entry.scope is not None:
        assert operation["x-scope"]["scope"] == entry.scope
        assert {"401", "403", "429", "503"} <= set(operation["responses"])


@pytest.mark.parametrize("place", OPERATION, ids=" ".join)
def test_examples_are_what_their_schemas_say(place: tuple[str, str]) -> None:
    operation = OPERATION[place]
    for parameter in operation.get("parameters", ()):
        if "example" in parameter:
            check(parameter["schema"], parameter["example"])
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]["application/json"]
        check(content["schema"], content["example"])
        assert content["example"] not in ({}, None)
    for status, answer in operation["responses"].items():
        for media, content in answer.get("content", {}).items():
            if media.endswith("json"):
                check(content["schema"], content["example"])
            if media == openapi.PROBLEM:
                assert content["example"]["status"] == int(status)


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("max_cost_usd", [0.01, 999_999, None], [0, 1_000_000]),
        ("job_id", ["a", "a-1", None], ["", "-a", "a-", "a_b", "x" * 51]),
        ("timeout_s", [1, 86_400], [0, 86_401]),
        ("max_tokens", [1], [0]),
    ],
)
def test_the_bounds_of_a_call_are_those_of_its_handler(field: str, good: list[object], bad: list[object]) -> None:
    schema = OPERATION["POST", "/invoke"]["requestBody"]["content"]["application/json"]["schema"]
    for value in good:
        check(schema, given := {"prompt": "x", field: value})
        invoke.wish(json.dumps(given).encode(), 9)
    for value in bad:
        with pytest.raises(jsonschema.ValidationError):
            check(schema, given := {"prompt": "x", field: value})
        with pytest.raises(BadRequest, match=field):
            invoke.wish(json.dumps(given).encode(), 9)


@pytest.mark.parametrize(
    ("place", "headers"),
    [
        (("POST", "/invoke"), {"Idempotency-Key", "Last-Event-ID"}),
        (("GET", "/api/jobs/{id}/events"), {"Last-Event-ID"}),
        (("GET", "/api/artifacts/{id}/content"), {"Range", "If-Range", "If-None-Match"}),
        (("GET", "/api/artifacts/{id}/signed"), {"Range", "If-Range", "If-None-Match"}),
    ],
)
def test_headers_that_are_heard_are_told(place: tuple[str, str], headers: set[str]) -> None:
    assert {p["name"] for p in OPERATION[place]["parameters"] if p["in"] == "header"} == headers


def test_every_error_of_ours_has_its_status_in_the_words() -> None:
    known = {error.status for error in PilothouseError.__subclasses__() if error.__module__.startswith("pilothouse.")}
    assert known <= set(openapi.WORDS)


def test_one_that_does_not_fit_is_seen() -> None:
    content = OPERATION["GET", "/api/sessions/{id}"]["responses"]["200"]["content"]["application/json"]
    with pytest.raises(jsonschema.ValidationError):
        check(content["schema"], content["example"] | {"head": "37"})


# --- what is answered ---


def closed(components: dict[str, Any]) -> dict[str, Any]:
    """As they are, but nothing beside what they name."""
    out = copy.deepcopy(components)
    for schema in out["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    return out


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[World]:
    async with serving() as served:
        made = World(served)
        await made.settle()
        await made.furnish()
        yield made


GETS = [
    path for method, path in OPERATION
    if method == "GET" and "application/json" in OPERATION[method, path]["responses"].get("200", {}).get("content", {})
]  # fmt: skip


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", GETS)
async def test_answers_have_what_is_said_and_no_more(world: World, path: str) -> None:
    entry = next(e for e in TABLE if (e.method, e.path.replace(":path}", "}")) == ("GET", path))
    async with httpx.AsyncClient(base_url=world.served.url, timeout=20) as http:
        answer = await http.get(world.address(entry.path), headers=world.by_key("red", "admin"))
    said = OPERATION["GET", path]["responses"].get(str(answer.status_code))
    assert said is not None, answer.status_code
    media = answer.headers["content-type"].partition(";")[0]
    check(said["content"][media]["schema"], answer.json(), closed(DOCUMENT["components"]))
    if answer.status_code == 200 and path.count("{") < 2:
        assert answer.json() != {"items": [], "next": None} or path in EMPTY, "nothing to look at"


EMPTY = {"/api/notifications/{id}/deliveries"}
"""Their rows are those of a webhook's."""


@pytest.mark.asyncio(loop_scope="module")
async def test_it_is_for_everybody_and_says_nothing_of_the_server(world: World) -> None:
    async with httpx.AsyncClient(base_url=world.served.url, timeout=20) as http:
        answer = await http.get("/openapi.json")
        assert answer.status_code == 200
        assert answer.json() == json.loads(json.dumps(DOCUMENT))
        foreign = await http.get("/openapi.json", headers={"host": "evil.example"})
        assert foreign.status_code == 421
        page = await http.get("/docs")
    for hidden in (str(world.served.port), "/home/", "/tmp/", *world.ids.values(), *world.keys.values()):
        assert hidden not in answer.text
        assert hidden not in page.text
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]


async def test_below_a_path_it_says_where() -> None:
    async with serving(front=Front(base="/pilot")) as served, httpx.AsyncClient(base_url=served.url) as http:
        below = await http.get("/openapi.json")
        assert below.json()["servers"] == [{"url": "/pilot"}]
    async with serving() as served, httpx.AsyncClient(base_url=served.url) as http:
        top = await http.get("/openapi.json", headers={"if-none-match": below.headers["etag"]})
        assert top.status_code == 200
        assert "servers" not in top.json()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
async def test_it_is_made_once_and_not_sent_to_who_has_it(
    world: World, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with httpx.AsyncClient(base_url=world.served.url, timeout=20) as http:
        first = await http.get(path)
        etag = first.headers["etag"]
        assert etag == f'"{hashlib.sha256(first.content).hexdigest()}"'

        def again(_: object) -> Any:
            raise AssertionError("made anew")

        monkeypatch.setattr(openapi, "document", again)
        monkeypatch.setattr(reference, "page", again)
        same = await http.get(path, headers={"if-none-match": f'"old", W/{etag}'})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
        assert same.headers["cache-control"] == first.headers["cache-control"] == "no-cache"
        other = await http.get(path, headers={"if-none-match": '"old"'})
        assert (other.status_code, other.content, other.headers["etag"]) == (200, first.content, etag)


# --- the page ---


class _Tags(html.parser.HTMLParser):
    VOID = {"meta", "link", "br", "input"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.leads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        assert tag != "script"
        assert not any(name.startswith("on") for name in said)
        self.ids += [v for n, v in attrs if n == "id" and v]
        self.leads += [v for n, v in attrs if n in {"href", "src"} and v]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page() -> Iterator[_Tags]:
    tags = _Tags()
    tags.feed(reference.page(DOCUMENT))
    yield tags


def test_the_page_is_whole_and_leads_nowhere_else(page: _Tags) -> None:
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert {lead for lead in page.leads if not lead.startswith("#")} == {"favicon.svg", "openapi.json", "./"}
    assert {lead[1:] for lead in page.leads if lead.startswith("#")} <= set(page.ids)


def test_the_page_shows_every_operation_and_schema(page: _Tags) -> None:
    assert {operation["operationId"] for operation in OPERATION.values()} <= set(page.ids)
    assert {f"schema-{name}" for name in DOCUMENT["components"]["schemas"]} <= set(page.ids)
    assert all(path in reference.page(DOCUMENT) for path in DOCUMENT["x-websockets"])


def test_what_it_is_given_is_text_there() -> None:
    evil = copy.deepcopy(DOCUMENT)
    told = evil["paths"]["/healthz"]["get"]
    told["summary"] = told["description"] = "<img src=x onerror=alert(1)>"
    assert "<img" not in reference.page(evil)
