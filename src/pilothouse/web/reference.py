"""The page that shows the OpenAPI document: plain HTML, made here, without a script or anything from elsewhere.

It is for reading and for the browser's own search; every operation, schema and field is a heading or a row with an
address of its own.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any

from pilothouse.core.api.base import UUID

Built = dict[str, Any]
METHODS = ("get", "post", "put", "patch", "delete", "options")


def page(document: Built) -> str:
    groups: dict[str, list[str]] = {tag["name"]: [] for tag in document["tags"]}
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                groups[item[method]["tags"][0]].append(_operation(method, path, item[method]))
    sockets = "".join(_socket(path, one) for path, one in document["x-websockets"].items())
    schemas = "".join(_schema(name, one) for name, one in sorted(document["components"]["schemas"].items()))
    body = "".join(
        f'<section aria-labelledby="{_anchor(name)}"><h2 id="{_anchor(name)}">{html.escape(name)}</h2>{"".join(every)}'
        "</section>"
        for name, every in groups.items()
    )
    return PAGE.format(
        nav="".join(_chapter(name, document) for name in groups),
        about="".join(f"<p>{_words(part)}</p>" for part in document["info"]["description"].split("\n\n")),
        security="".join(_credential(name, one) for name, one in document["components"]["securitySchemes"].items()),
        body=body,
        sockets=sockets,
        schemas=schemas,
    )


def _chapter(name: str, document: Built) -> str:
    rows = [
        f'<li><a href="#{one["operationId"]}"><code>{method.upper()} {html.escape(path)}</code></a></li>'
        for path, item in document["paths"].items()
        for method in METHODS
        if (one := item.get(method)) is not None and one["tags"] == [name]
    ]
    return f"<details><summary>{html.escape(name)}</summary><ul>{''.join(rows)}</ul></details>"


def _operation(method: str, path: str, one: Built) -> str:
    parts = [
        f'<article id="{one["operationId"]}"><h3><code><b class="{method}">{method.upper()}</b> {html.escape(path)}'
        f"</code></h3><p>{_words(one['summary'])}. {_words(one.get('description', ''))}</p>{_scope(one)}",
        _parameters(one.get("parameters", []), f"{method.upper()} {path}"),
    ]
    if "requestBody" in one:
        content = one["requestBody"]["content"]["application/json"]
        parts.append(f"<h4>Body</h4><p>{_type(content['schema'])}</p>{_example(content['example'])}")
    parts.append("<h4>Answers</h4>" + "".join(_answer(*answer) for answer in one["responses"].items()))
    return "".join(parts) + "</article>"


def _scope(one: Built) -> str:
    if "x-scope" not in one:
        return "<p class=quiet>Public.</p>"
    where = "in the session" if one["x-scope"]["on"] == "session" else "in the organisation"
    return f"<p class=quiet>Needs <code>{one['x-scope']['scope']}</code> {where}.</p>"


def _parameters(given: list[Built], of: str) -> str:
    if not given:
        return ""
    rows = "".join(
        f"<tr><th scope=row><code>{html.escape(one['name'])}</code></th><td>{one['in']}"
        f"{', required' if one.get('required') else ''}</td><td>{_type(one['schema'])}</td>"
        f"<td>{_words(one['description'])}</td></tr>"
        for one in given
    )
    head = "<tr><th scope=col>Name</th><th scope=col>In</th><th scope=col>Type</th><th scope=col>Meaning</th></tr>"
    return f"<h4>Parameters</h4>{_table(head, rows, f'Parameters of {of}')}"


def _answer(status: str, one: Built) -> str:
    content = one.get("content", {})
    kinds = ", ".join(
        f"{_type(said['schema']) if 'schema' in said else 'events'} <code>{html.escape(media)}</code>"
        for media, said in content.items()
    )
    examples = "".join(_example(said["example"]) for said in content.values() if "example" in said)
    line = f"<b>{status}</b> {_words(one['description'])} {kinds}"
    shown = f"<details><summary>Example of {status}</summary>{examples}</details>" if examples else ""
    return f"<p>{line}</p>{shown}"


def _socket(path: str, one: Built) -> str:
    return (
        f"<article><h3><code><b>WS</b> {html.escape(path)}</code></h3>"
        f"<p>{_words(one['summary'])}. {_words(one['description'])}</p>{_scope(one)}</article>"
    )


def _schema(name: str, one: Built) -> str:
    required = set(one.get("required", ()))
    rows = "".join(
        f"<tr><th scope=row><code>{html.escape(field)}</code></th>"
        f"<td>{'always' if field in required else 'optional'}</td>"
        f"<td>{_type(schema)}</td><td>{_words(schema.get('description', ''))}</td></tr>"
        for field, schema in one.get("properties", {}).items()
    )
    head = "<tr><th scope=col>Field</th><th scope=col>Given</th><th scope=col>Type</th><th scope=col>Meaning</th></tr>"
    fields = _table(head, rows, f"Fields of {name}") if rows else f"<p>{_type(one)}</p>"
    said = _words(one.get("description", ""))
    return f'<article id="schema-{name}"><h3><code>{html.escape(name)}</code></h3><p>{said}</p>{fields}</article>'


def _table(head: str, rows: str, name: str) -> str:
    return f'<div class=table tabindex=0 role=region aria-label="{html.escape(name)}"><table>{head}{rows}</table></div>'


def _type(schema: Built) -> str:
    """In a few words, with links."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#schema-{name}">{html.escape(name)}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"<code>{html.escape(json.dumps(one))}</code>" for one in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return html.escape(str(schema.get("type", "any JSON"))) + _bounds(schema)


def _bounds(schema: Built) -> str:
    words = []
    if schema.get("pattern") == UUID:
        return " <span class=quiet>(a UUID)</span>"
    for name, meaning in BOUNDS.items():
        if name in schema:
            words.append(f"{meaning} <code>{html.escape(json.dumps(schema[name], ensure_ascii=False))}</code>")
    return f" <span class=quiet>({', '.join(words)})</span>" if words else ""


def _example(example: object) -> str:
    shown = example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)
    return f"<pre tabindex=0>{html.escape(shown)}</pre>"


def _credential(name: str, one: Built) -> str:
    where = f"{one['in']} <code>{html.escape(one['name'])}</code>" if "name" in one else "<code>Authorization</code>"
    return f"<tr><th scope=row><code>{name}</code></th><td>{where}</td><td>{_words(one['description'])}</td></tr>"


def _words(text: str) -> str:
    """Plain text, with `code` and **bold** as such."""
    escaped = html.escape(text, quote=False)
    return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", re.sub(r"`(.+?)`", r"<code>\1</code>", escaped))


def _anchor(name: str) -> str:
    return re.sub(r"\W+", "-", name.lower())


BOUNDS = {
    "minimum": "from", "maximum": "to", "exclusiveMinimum": "more than", "exclusiveMaximum": "less than",
    "minLength": "at least", "maxLength": "at most", "pattern": "as", "format": "as", "default": "default",
}  # fmt: skip
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The HTTP API - Pilothouse</title>
<link rel="icon" href="favicon.svg">
<style>
:root {{ color-scheme: light dark; --line: light-dark(#dee2e6, #3a4148); --soft: light-dark(#f5f6f7, #12161a);
  --quiet: light-dark(#5c636a, #a5adb5); --link: light-dark(#0b6470, #66d9e8); --page: light-dark(#fff, #1a1e22); }}
* {{ box-sizing: border-box; }}
html {{ scroll-padding-top: 1rem; }}
body {{ margin: 0; font: 15px/1.6 system-ui, sans-serif; background: var(--page); color: light-dark(#16191c, #e4e7ea);
  display: grid; grid-template-columns: 19rem minmax(0, 1fr); }}
nav {{ border-right: 1px solid var(--line); padding: 1.25rem 1rem; height: 100vh; overflow-y: auto; position: sticky;
  top: 0; font-size: 13px; }}
nav ul {{ list-style: none; margin: .2rem 0 .6rem; padding: 0; }}
nav li a {{ display: block; padding: .2rem 0; }}
main {{ max-width: 60rem; padding: 1.25rem 1.5rem 6rem; min-width: 0; }}
h1 {{ font-size: 1.5rem; margin: 0 0 .5rem; }} h2 {{ font-size: 1.25rem; margin: 2.5rem 0 .5rem; }}
h3 {{ font-size: 1rem; margin: 0; overflow-wrap: anywhere; }} h3 code {{ font-size: 15px; }}
h4 {{ font-size: .85rem; margin: .9rem 0 .3rem; }}
article {{ border: 1px solid var(--line); border-radius: 10px; padding: .9rem 1rem; margin: .9rem 0; }}
article:target {{ outline: 2px solid var(--link); }}
p {{ margin: .35rem 0; }} a {{ color: var(--link); text-underline-offset: 2px; overflow-wrap: anywhere; }}
code, pre {{ font: 13px/1.55 ui-monospace, monospace; }} code {{ overflow-wrap: anywhere; }}
pre {{ background: var(--soft); border-radius: 8px; padding: .6rem .75rem; overflow-x: auto; margin: .4rem 0; }}
.quiet {{ color: var(--quiet); font-size: 13px; }}
.table {{ overflow-x: auto; }} table {{ border-collapse: collapse; width: 100%; font-size: 14px; }}
th, td {{ text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line);
  font-weight: 400; }}
th code {{ white-space: nowrap; }}
th[scope=col] {{ color: var(--quiet); font-size: 12px; }}
summary {{ cursor: pointer; padding: .25rem 0; }} main summary {{ color: var(--quiet); font-size: 13px; }}
:focus-visible {{ outline: 2px solid var(--link); outline-offset: 2px; }}
.skip {{ position: absolute; left: -999px; }}
.skip:focus {{ left: 1rem; top: 1rem; background: var(--page); padding: .5rem; }}
@media (max-width: 760px) {{ body {{ display: block; }} nav {{ position: static; height: auto; border-right: 0;
  border-bottom: 1px solid var(--line); }} main {{ padding: 1rem; }}
  nav {{ display: grid; grid-template-columns: 1fr 1fr; gap: 0 1rem; padding: .75rem 1rem; }}
  nav p:first-child, nav details[open] {{ grid-column: 1 / -1; }}
  table, tbody, tr, th, td {{ display: block; border: 0; padding: 0; }} tr:has(th[scope=col]) {{ display: none; }}
  tr {{ border-bottom: 1px solid var(--line); padding: .4rem 0; }} th code {{ font-weight: 600; }} }}
@media print {{ nav {{ display: none; }} body {{ display: block; }} }}
</style>
</head>
<body>
<a class="skip" href="#main">To the content</a>
<nav aria-label="Operations">
<p><a href="./">Pilothouse</a> · <a href="openapi.json">openapi.json</a></p>
{nav}
<p><a href="#websockets">WebSockets</a></p>
<p><a href="#schemas">Schemas</a></p>
</nav>
<main id="main">
<h1>The HTTP API</h1>
{about}
<h2 id="credentials">Credentials</h2>
<div class="table" tabindex="0" role="region" aria-label="Credentials"><table>{security}</table></div>
{body}
<section aria-labelledby="websockets"><h2 id="websockets">WebSockets</h2>{sockets}</section>
<section aria-labelledby="schemas"><h2 id="schemas">Schemas</h2>{schemas}</section>
</main>
</body>
</html>
"""
