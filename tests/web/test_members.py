"""Members by HTTP, as the page does it: signed in, with a cookie. Nobody leaves an organisation without an admin."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from tests.web.serving import Served, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


@contextlib.asynccontextmanager
async def signed_in(served: Served, organisation: str, account: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served.url, timeout=20) as http:
        ticket, _ = await served.identity.ticket(account, organisation)
        assert (await http.post("/api/signin", json={"ticket": ticket})).status_code == 204
        http.headers.update({"origin": served.url, "x-csrf-token": (await http.get("/api/me")).json()["csrf"]})
        yield http


async def test_the_last_admin_neither_leaves_nor_steps_down_until_there_is_another(served: Served) -> None:
    members = served.identity.members
    await members.make("red", None)
    await members.put("red", "gus", role="admin")
    await members.put("red", "eve", role="admin", disabled=True)
    await members.put("red", "ops", role="operator")
    async with signed_in(served, "red", "gus") as http:
        own = "/api/members/gus"
        before = (await http.get("/api/members")).json()
        for method, body in (("DELETE", None), ("PUT", {"role": "viewer"}), ("PUT", {"disabled": True})):
            refused = await http.request(method, own, json=body)
            assert (refused.status_code, refused.json()["code"]) == (409, "last_admin"), (method, body)
            assert "last admin" in refused.json()["detail"]
        assert (await http.get("/api/members")).json() == before
        assert (await http.put(own, json={"name": "Gus"})).status_code == 200, "a name is no role"

        assert (await http.put("/api/members/eve", json={"disabled": False})).status_code == 200
        assert (await http.put(own, json={"role": "viewer"})).json()["role"] == "viewer"
        for method, path in (("GET", "/api/members"), ("PUT", own), ("DELETE", own), ("POST", "/api/keys")):
            body = {"role": "admin"} if method == "PUT" else {} if method == "POST" else None
            assert (await http.request(method, path, json=body)).status_code == 403, (method, path)
    async with signed_in(served, "red", "eve") as http:
        assert (await http.delete("/api/members/gus")).status_code == 204
        assert (await http.delete("/api/members/eve")).json()["code"] == "last_admin"


async def test_who_has_the_machine_stays_whatever_other_admins_say(served: Served) -> None:
    await served.identity.members.put("default", "bea", role="admin")
    async with signed_in(served, "default", "bea") as http:
        for method, body in (("DELETE", None), ("PUT", {"role": "operator"}), ("PUT", {"disabled": True})):
            refused = await http.request(method, "/api/members/local", json=body)
            assert (refused.status_code, refused.json()["code"]) == (409, "last_admin")
        assert (await http.delete("/api/members/bea")).status_code == 204
        assert (await http.get("/api/me")).status_code == 401


async def test_pairs_are_made_and_ended_by_who_is_signed_in_and_bad_wishes_make_none(served: Served) -> None:
    async with signed_in(served, "default", "local") as http:
        asked = {"name": "page", "kind": "sigv4", "scopes": ["read"], "expiresInS": 3600, "sessionToken": True}
        made = (await http.post("/api/keys", json=asked)).json()
        assert {"accessKeyId", "secretAccessKey", "sessionToken", "expiresAt"} <= set(made)
        bad: tuple[dict[str, object], ...] = (
            {"expiresInS": 1}, {"expiresInS": 367 * 86_400}, {"scopes": []}, {"scopes": ["all"]}, {"name": "a\nb"},
            {"name": "x" * 101}, {"kind": "rsa"}, {"account": "nobody"},
        )  # fmt: skip
        for wrong in bad:
            assert (await http.post("/api/keys", json=asked | wrong)).status_code in {400, 404}, wrong
        [listed] = [one for one in (await http.get("/api/keys")).json()["items"] if one["kind"] == "sigv4"]
        assert listed["id"] == made["accessKeyId"]
        assert not {"secretAccessKey", "sessionToken", "sealed"} & set(listed)
        assert (await http.delete(f"/api/keys/{listed['id']}")).status_code == 204
        assert (await http.delete(f"/api/keys/{listed['id']}")).status_code == 404
