"""Tokens of issuers: good ones come to what the configuration says, every bad one is refused by its own fault."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from pilothouse.adapters.identity.keys import IssuerKeys
from pilothouse.core.access import SCOPES
from pilothouse.core.errors import Forbidden, Unauthenticated
from pilothouse.core.token import TOKEN_MAX
from pilothouse.engine.bearers import Bearers
from tests.clock import HandClock
from tests.issuer import NOW, FakeIssuer, Houses, b64, ec_key, jwk, pem, rsa_key


@pytest.fixture
def house() -> FakeIssuer:
    return FakeIssuer()


@pytest.fixture
def clock() -> HandClock:
    return HandClock(NOW)


def bearers(*houses: FakeIssuer, clock: HandClock | None = None, **changes: Any) -> Bearers:
    clock = clock or HandClock(NOW)
    issuers = [dataclasses.replace(h.issuer, **changes) for h in houses]
    return Bearers(issuers, IssuerKeys(Houses(houses), clock), clock)


async def test_a_good_token_is_a_principal(house: FakeIssuer) -> None:
    who = await bearers(house).principal(house.token(name="Ann", groups=["ops", "other"], jti="7"))
    assert (who.kind, who.name, who.role, who.organisation) == ("person", "Ann", "operator", "default")
    assert who.scopes == set(SCOPES), "as a sign-in: what it may is the account's"
    assert who.credential == "jwt:https://issuer.example#ann#7"
    assert who.expires_at == NOW + 660, "the end of the token, and the leeway"
    assert who.account.startswith("ann.")
    again = await bearers(house).principal(house.token(name="Other name"))
    assert again.account == who.account


async def test_access_and_id_tokens_of_cognito_are_one_account(house: FakeIssuer) -> None:
    """The access token has a client and no audience, the ID token an audience and no client."""
    said: dict[str, Any] = {"groups_claim": "cognito:groups", "audience": ()}
    groups: dict[str, Any] = {"cognito:groups": ["ops"]}
    access = house.token(aud=None, client_id="client", token_use="access", username="u1", **groups)
    named = house.token(aud="client", token_use="id", email="ann@example.org", **groups)
    first, second = [await bearers(house, **said).principal(one) for one in (access, named)]
    assert first.account == second.account
    assert {first.role, second.role} == {"operator"}


@pytest.mark.parametrize(("groups", "role"), [
    (["boss", "ops"], "admin"), ("ops", "operator"), ([], "viewer"), (["OPS"], "viewer"), (None, "viewer"),
    ({"ops": 1}, "viewer"), ([["ops"]], "viewer"), (["x"] * 5000 + ["boss"], "viewer"), ("ops boss", "viewer"),
])  # fmt: skip
async def test_c11_a_role_comes_from_configured_groups_alone(house: FakeIssuer, groups: Any, role: str) -> None:
    """Whatever else the token claims of itself."""
    claimed: dict[str, Any] = {
        "role": "admin",
        "roles": ["admin"],
        "scope": "admin",
        "scopes": ["admin"],
        "organisation": "other",
    }
    if groups == ["x"] * 5000 + ["boss"]:
        groups = ["x"] * 1000 + ["boss"]
    who = await bearers(house).principal(house.token(groups=groups, **claimed))
    assert (who.role, who.organisation) == (role, "default")


async def test_somebody_in_no_group_is_refused_where_there_is_no_default(house: FakeIssuer) -> None:
    with pytest.raises(Forbidden, match="role"):
        await bearers(house, default_role=None).principal(house.token(groups=["other"]))


async def test_groups_may_stand_inside_another_claim(house: FakeIssuer) -> None:
    token = house.token(realm_access={"roles": ["boss"]})
    who = await bearers(house, groups_claim="realm_access.roles").principal(token)
    assert who.role == "admin"
    claim = "https://x.example/roles"
    said: dict[str, Any] = {claim: ["boss"]}
    who = await bearers(house, groups_claim=claim).principal(house.token(**said))
    assert who.role == "admin"


async def test_one_subject_of_two_issuers_is_two_accounts() -> None:
    one, two = FakeIssuer(), FakeIssuer("https://two.example", "two")
    both = bearers(one, two)
    first, second = [await both.principal(h.token()) for h in (one, two)]
    assert first.account != second.account


async def test_c14_a_key_id_of_one_issuer_is_nothing_to_another() -> None:
    """Both say `one`, with a key of their own each: a key that was kept by its id alone let one speak for the other."""
    one, two = FakeIssuer(), FakeIssuer("https://two.example", "two")
    both = bearers(one, two)
    assert (await both.principal(two.token())).credential.startswith("jwt:https://two.example#")
    assert (await both.principal(one.token())).credential.startswith("jwt:https://issuer.example#")
    for wrong in (one.token(iss=two.url), two.token(iss=one.url)):
        with pytest.raises(Unauthenticated, match="signature"):
            await both.principal(wrong)


Bad = Callable[[FakeIssuer], str]


def _swap(token: str, **claims: Any) -> str:
    head, body, tail = token.split(".")
    said = json.loads(base64.urlsafe_b64decode(body + "==")) | claims
    return f"{head}.{b64(said)}.{tail}"


def _raw(text: str) -> Bad:
    """Claims written by hand, signed by the issuer's own key."""
    return lambda h: h.signed({"alg": "ES256", "kid": h.kid}, text.encode())


def _header(**header: Any) -> Bad:
    return lambda h: h.signed({"alg": "ES256", "kid": h.kid, **header}, h.claims())


TWICE = '{"iss":"https://issuer.example","sub":"ann","sub":"bob","aud":"pilothouse","iat":1767225600,"exp":1767226200}'
INSIDE = '{"iss":"https://issuer.example","sub":"ann","aud":"pilothouse","iat":1767225600,"exp":%s}'
BAD: dict[str, tuple[Bad, str]] = {
    "forged claims": (lambda h: _swap(h.token(), sub="root"), "signature"),
    "another key": (lambda h: h.token(key=ec_key()), "signature"),
    "truncated": (lambda h: h.token()[:-9], ""),
    "no signature": (lambda h: h.token().rpartition(".")[0] + ".", "three parts"),
    "two parts": (lambda h: h.token().rpartition(".")[0], "no key"),
    "four parts": (lambda h: h.token() + ".x", "no key"),
    "another signature": (lambda h: h.token().rpartition(".")[0] + "." + h.token(sub="b").rpartition(".")[2], "signat"),
    "padding": (lambda h: h.token() + "=", "three parts"),
    "spaces": (lambda h: h.token().replace(".", " ."), ""),
    "newline": (lambda h: h.token() + "\n", "three parts"),
    "not ascii": (lambda h: h.token()[:-1] + "é", "three parts"),
    "huge": (lambda h: h.token(x="x" * TOKEN_MAX), "longer"),
    "expired": (lambda h: h.token(exp=int(NOW) - 61), "exp"),
    "expired at the leeway": (lambda h: h.token(exp=int(NOW) - 60), "exp"),
    "without end": (lambda h: h.token(exp=None), "exp"),
    "end is text": (lambda h: h.token(exp=str(int(NOW) + 600)), "exp"),
    "end is true": (lambda h: h.token(exp=True), "exp"),
    "end is beyond time": (lambda h: h.token(exp=10**18), "exp"),
    "end is a googol": (_raw(INSIDE % ("9" * 400)), "exp"),
    "end is infinite": (_raw(INSIDE % "1e999"), "exp"),
    "end is no number": (_raw(INSIDE % "NaN"), "claims"),
    "end is null": (_raw(INSIDE % "null"), "exp"),
    "not yet": (lambda h: h.token(nbf=int(NOW) + 61), "nbf"),
    "made in the future": (lambda h: h.token(iat=int(NOW) + 61), "iat"),
    "made nobody knows when": (lambda h: h.token(iat=None), "iat"),
    "wrong issuer": (lambda h: h.token(iss="https://evil.example"), "issuer"),
    "issuer with a slash": (lambda h: h.token(iss=h.url + "/"), "issuer"),
    "issuer in capitals": (lambda h: h.token(iss=h.url.upper()), "issuer"),
    "no issuer": (lambda h: h.token(iss=None), "issuer"),
    "list of issuers": (lambda h: h.signed({"alg": "ES256", "kid": h.kid}, h.claims(iss=[h.url])), "issuer"),
    "wrong audience": (lambda h: h.token(aud="other"), "aud"),
    "wrong audience, right client": (lambda h: h.token(aud="other", client_id="client"), "aud"),
    "right audience, wrong client": (lambda h: h.token(client_id="other"), "client_id"),
    "right audience, wrong party": (lambda h: h.token(azp="other"), "client_id"),
    "no audience, no client": (lambda h: h.token(aud=None), "aud"),
    "no audience, wrong client": (lambda h: h.token(aud=None, client_id="other"), "aud"),
    "empty audience": (lambda h: h.token(aud=[]), "aud"),
    "audience is null": (lambda h: h.signed({"alg": "ES256", "kid": h.kid}, h.claims() | {"aud": None}), "aud"),
    "audience is a number": (lambda h: h.signed({"alg": "ES256", "kid": h.kid}, h.claims(aud=7)), "aud"),
    "audience in part": (lambda h: h.token(aud="pilot"), "aud"),
    "client is a list": (lambda h: h.token(client_id=["client"]), "client_id"),
    "use of a refresh token": (lambda h: h.token(token_use="refresh"), "token_use"),
    "no subject": (lambda h: h.token(sub=None), "sub"),
    "empty subject": (lambda h: h.token(sub=""), "sub"),
    "subject is a number": (lambda h: h.signed({"alg": "ES256", "kid": h.kid}, h.claims(sub=7)), "sub"),
    "long subject": (lambda h: h.token(sub="x" * 256), "sub"),
    "subject with a line": (lambda h: h.token(sub="ann\nadmin"), "sub"),
    "claim twice": (_raw(TWICE), "claims"),
    "claims are a list": (_raw("[1]"), "claims"),
    "claims are no JSON": (_raw("{"), "claims"),
    "claims are deep": (_raw('{"a":' + "[" * 5000), "claims"),
    "claims are no UTF-8": (lambda h: h.signed({"alg": "ES256", "kid": h.kid}, b'{"iss":"\xff"}'), "claims"),
    "header twice": (lambda h: h.signed(b'{"alg":"none","alg":"ES256","kid":"one"}', h.claims()), "header"),
    "alg none": (lambda h: b64({"alg": "none", "kid": h.kid}) + "." + b64(h.claims()) + ".AA", "alg"),
    "alg none, no signature": (lambda h: b64({"alg": "none"}) + "." + b64(h.claims()) + ".", ""),
    "alg None": (_header(alg="None"), "alg"),
    "alg is missing": (lambda h: h.signed({"kid": h.kid}, h.claims()), "alg"),
    "alg is a list": (_header(alg=["ES256"]), "alg"),
    "alg of another key": (_header(alg="RS256"), "alg"),
    "alg not configured": (_header(alg="ES384"), "alg"),
    "alg in small letters": (_header(alg="es256"), "alg"),
    "crit": (_header(crit=["exp"]), "crit"),
    "crit, empty": (_header(crit=[]), "crit"),
    "b64": (_header(crit=["b64"], b64=False), "crit"),
    "a logout token": (_header(typ="logout+jwt"), "typ"),
    "typ is a number": (_header(typ=7), "typ"),
    "no kid": (lambda h: h.signed({"alg": "ES256"}, h.claims()), "kid"),
    "kid is a number": (_header(kid=1), "kid"),
    "kid is empty": (_header(kid=""), "kid"),
    "kid is a path": (_header(kid="../../../../dev/null"), "kid"),
    "kid is an address": (_header(kid="https://evil.example/keys"), "kid"),
    "kid is SQL": (_header(kid="x' UNION SELECT 'secret"), "kid"),
    "kid is long": (_header(kid="k" * 257), "kid"),
    "kid is as long as may be": (_header(kid="k" * 256), "kid"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
async def test_c14_a_bad_token_is_refused(house: FakeIssuer, case: str) -> None:
    make, named = BAD[case]
    token = make(house)
    with pytest.raises(Unauthenticated) as refused:
        await bearers(house).principal(token)
    if named not in {"no key"}:
        assert named in refused.value.message
    assert len(refused.value.message) < 200
    for part in token.split("."):
        assert len(part) < 9 or part not in refused.value.message, "an answer repeats nothing of a token"
    assert all("evil" not in url for url in house.asked)


@pytest.mark.parametrize("claims", [
    {"exp": int(NOW) - 59}, {"nbf": int(NOW) + 60}, {"iat": int(NOW) + 60}, {"exp": NOW + 0.5},
    {"aud": ["other", "pilothouse"]}, {"aud": None, "client_id": "client"}, {"azp": "client"}, {"sub": "x" * 255},
])  # fmt: skip
async def test_a_token_at_the_edge_is_good(house: FakeIssuer, claims: dict[str, Any]) -> None:
    await bearers(house).principal(house.token(**claims))


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "application/at+jwt"])
async def test_types_of_tokens_that_say_who(house: FakeIssuer, typ: str) -> None:
    await bearers(house).principal(house.token({"typ": typ}))


async def test_c14_a_public_key_is_no_secret_to_sign_with(house: FakeIssuer) -> None:
    """HS256 with the public key's bytes, in the forms that libraries have been fooled with."""
    house.key, house.alg = rsa_key(), "RS256"
    every = bearers(house)
    await every.principal(house.token())
    for secret in (pem(house.key), json.dumps(jwk(house.key, "one", "RS256")).encode(), b""):
        for alg in ("HS256", "HS384", "HS512"):
            said = f"{b64({'alg': alg, 'kid': 'one'})}.{b64(house.claims())}"
            digest = hmac.new(secret, said.encode(), getattr(hashlib, f"sha{alg[2:]}")).digest()
            with pytest.raises(Unauthenticated, match="alg"):
                await every.principal(f"{said}.{b64(digest)}")


async def test_c14_a_key_that_a_token_brings_or_names_is_not_looked_at(house: FakeIssuer) -> None:
    mine = ec_key()
    own = jwk(mine, "mine", "ES256")
    for header in (
        {"jwk": own},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/x"},
        {"x5c": ["x"]},
    ):
        for kid in ("mine", house.kid):
            with pytest.raises(Unauthenticated):
                await bearers(house).principal(house.token({**header, "kid": kid}, key=mine))
        await bearers(house).principal(house.token(header))
    assert not [url for url in house.asked if "evil" in url]


@pytest.mark.parametrize("alg", ["RS256", "RS512", "PS256", "PS384", "ES256", "ES384", "ES512", "EdDSA"])
async def test_each_algorithm_that_is_configured(house: FakeIssuer, alg: str) -> None:
    curves = {"ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    house.key = rsa_key() if alg[1] == "S" and alg[0] in "RP" else ec_key(curves.get(alg))
    if alg == "EdDSA":
        house.key = ed25519.Ed25519PrivateKey.generate()
    house.alg = alg
    await bearers(house, algorithms=(alg,)).principal(house.token())
    others = tuple({"RS256", "ES256", "PS256", "EdDSA"} - {alg})
    with pytest.raises(Unauthenticated, match="alg"):
        await bearers(house, algorithms=others).principal(house.token())


async def test_c14_a_key_is_used_with_its_own_algorithm_alone(house: FakeIssuer) -> None:
    house.key, house.alg = rsa_key(), "RS256"
    house.keys = [jwk(house.key, "one", "RS256") | {"alg": "PS256"}]
    with pytest.raises(Unauthenticated, match="alg"):
        await bearers(house, algorithms=("RS256", "PS256")).principal(house.token())
    await bearers(house, algorithms=("RS256", "PS256")).principal(house.token({"alg": "PS256"}))


async def test_an_email_as_account_must_be_verified(house: FakeIssuer) -> None:
    by_mail = bearers(house, account_claim="email")
    for verified in (None, False, "false", 1):
        with pytest.raises(Unauthenticated, match="email"):
            await by_mail.principal(house.token(email="ann@example.org", email_verified=verified))
    await by_mail.principal(house.token(email="ann@example.org", email_verified=True))


async def test_an_issuer_for_people_alone_is_none_for_tokens(house: FakeIssuer) -> None:
    with pytest.raises(Unauthenticated, match="issuer"):
        await bearers(house, audience=(), client_ids=(), client_id="x").principal(house.token(aud="x"))
