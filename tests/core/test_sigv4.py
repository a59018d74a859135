"""Signatures: what botocore signs stands, anything else does not, and every refusal says what was wrong."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote_plus, urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilothouse.core import proof, sigv4
from pilothouse.core.errors import BadSignature
from pilothouse.core.proof import SigningKeys
from pilothouse.core.sigv4 import EXPIRES_MAX, WINDOW_S
from tests.core.signing import ID, NOW, SECRET, Request, at, holds, signed

# --- what botocore signs stands ---

PRINTABLE = "".join(chr(n) for n in range(33, 127))
ODD = "é日本😀\u0301"
texts = st.text(PRINTABLE + " " + ODD, max_size=12)
segments = st.text(PRINTABLE + ODD, min_size=1, max_size=12).map(lambda s: quote(s, safe="-_.~!$'()*,;=:@&+"))
paths = st.lists(segments.filter(lambda s: s not in {".", ".."}), max_size=4).flatmap(
    lambda parts: st.sampled_from(["/" + "/".join(parts), "/" + "/".join(parts) + ("/" if parts else "")])
)
lower_hex = st.text("é日 /:", min_size=1, max_size=4).map(lambda s: quote(s, safe="").lower())
parts = st.one_of(
    texts.map(lambda s: quote(s, safe="")), texts.map(lambda s: quote(s, safe="/:@!$,;?+*()'")), lower_hex
)
pairs = st.lists(st.tuples(parts.filter(bool).map(lambda s: "q" + s), parts), max_size=5)
values = st.text(PRINTABLE + " \t" + ODD, max_size=20)
names = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=12).map(lambda s: "X-T" + s)
hosts = st.sampled_from(
    [
        "127.0.0.1:8420",
        "localhost",
        "[::1]:8420",
        "example.org:80",
        "bedrock-agentcore.us-west-2.amazonaws.com",
        "h:443",
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    found = draw(pairs)
    found.sort(key=lambda pair: [quote(unquote_plus(part), safe="") for part in pair])  # repeated names need it
    query = "&".join(f"{n}={v}" for n, v in found)
    if draw(st.booleans()) and len({unquote_plus(n) for n, _ in found}) == len(found):
        query = "&".join(f"{n}={v}" for n, v in draw(st.permutations(found)))
    headers: tuple[tuple[str, str], ...] = tuple(draw(st.lists(st.tuples(names, values), max_size=4)))
    twice: bool = draw(st.booleans())
    if headers and twice:
        headers += ((headers[0][0].upper(), draw(values)),)  # comes twice
    presigned = draw(st.one_of(st.none(), st.integers(1, EXPIRES_MAX)))
    body = b"" if presigned is not None else draw(st.binary(max_size=40))
    url = f"http://{draw(hosts)}{draw(paths)}" + (f"?{query}" if query else "")
    return signed(
        draw(st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"])), url, headers, body,
        presigned=presigned,
        token=draw(st.one_of(st.none(), st.text(string.ascii_letters + "+/=", min_size=1, max_size=60))),
        service=draw(st.sampled_from(["bedrock-agentcore", "appsync"])),
        region=draw(st.sampled_from(["us-east-1", "eu-central-1", "cn-north-1"])),
    )  # fmt: skip


MANY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


@settings(MANY, max_examples=2000)
@given(requests())
def test_what_botocore_signs_stands(request: Request) -> None:
    assert holds(request)


# --- and nothing else ---


def alike(request: Request, *, portless: bool = False) -> object:
    """What two requests may differ in and yet be the same, all of it: the case of header names, blanks around and
    between the words of a header, the case of hex digits in a query's escapes, and, where a client has signed the host
    without its port, the port."""
    escapes = re.sub(r"%[0-9A-Fa-f]{2}", lambda found: found[0].upper(), request.query)
    headers = [(n.lower(), re.sub(r"[ \t]+", " ", v).strip(" ")) for n, v in request.headers]
    if portless:
        headers = [(n, re.sub(r":[0-9]+\Z", "", v) if n == "host" else v) for n, v in headers]
    return request.method, request.path, escapes, headers, request.body


def changed(request: Request, place: int, to: int) -> Request | None:
    """One byte of it is another one; None where that is no request any more, or no change."""
    lengths = [len(request.method), len(request.path), len(request.query), len(request.body)]
    for n, v in request.headers:
        lengths += [len(n), len(v)]
    place %= sum(lengths)
    part = next(i for i in range(len(lengths)) if place < sum(lengths[: i + 1]))
    place -= sum(lengths[:part])

    def put(text: str) -> str:
        return text[:place] + chr(to) + text[place + 1 :]

    if part == 0:
        made = replace(request, method=put(request.method))
    elif part == 1:
        made = replace(request, path=put(request.path))
    elif part == 2:
        made = replace(request, query=put(request.query))
    elif part == 3:
        made = replace(request, body=request.body[:place] + bytes([to]) + request.body[place + 1 :])
    else:
        index, is_value = divmod(part - 4, 2)
        name, value = request.headers[index]
        one = (name, put(value)) if is_value else (put(name), value)
        made = replace(request, headers=(*request.headers[:index], one, *request.headers[index + 1 :]))
    if made == request or any(sign in "".join([*map("".join, made.headers)]) for sign in "\r\n\0"):
        return None
    return made


def refused(request: Request, **at: Any) -> bool:
    try:
        return not holds(request, **at)
    except BadSignature:
        return True


bytes_to = st.one_of(st.sampled_from(b" \t%+&=/.;,:~-_aAfF09"), st.integers(1, 255))


@settings(MANY, max_examples=600)
@given(requests(), st.lists(st.tuples(st.integers(0, 10_000), bytes_to), min_size=8, max_size=8))
def test_a_request_with_one_byte_changed_does_not_stand(request: Request, changes: list[tuple[int, int]]) -> None:
    portless = request.of("host").endswith(":80")  # botocore signs a host without the port that is usual
    for place, to in changes:
        made = changed(request, place, to)
        if made is not None and alike(made, portless=portless) != alike(request, portless=portless):
            assert refused(made), made


@pytest.mark.parametrize("presigned", [None, 60])
@pytest.mark.parametrize("token", [None, "token/+="])
def test_every_byte_of_a_request_counts(presigned: int | None, token: str | None) -> None:
    body = b"" if presigned else b'{"a":1}'
    url = "http://127.0.0.1:8420/runtimes/arn%3Aaws%2Fx/ws?b=%3A2&a=x%20y&a=z"
    request = signed("POST", url, (("X-Two", " a  b "), ("x-two", "c")), body, presigned=presigned, token=token)
    assert holds(request)
    size = sum(map(len, [request.method, request.path, request.query, request.body])) + sum(
        len(n) + len(v) for n, v in request.headers
    )
    tried = 0
    for place in range(size):
        for to in b" \taAbBfF019%+&=/.;,:~-Zz\xe9\x7f":
            made = changed(request, place, to)
            if made is not None and alike(made) != alike(request):
                tried += 1
                assert refused(made), made
    assert tried > 5000


def test_what_may_differ() -> None:
    """Each of the exceptions, once."""
    request = signed(url="http://127.0.0.1:8420/api/me?a=%3A", headers=(("X-Two", "a b"),))
    query = replace(request, query="a=%3a")
    assert holds(replace(request, headers=tuple((n.swapcase(), v) for n, v in request.headers)))
    assert holds(request.header("x-two", "\t a \t b "))
    assert holds(query)
    assert holds(request.header("authorization", request.of("authorization").replace(", ", ",")))
    assert refused(replace(request, path="/api/%6de"))
    portless = signed(url="http://localhost/api/me")
    assert holds(portless.header("host", "localhost:8420"))
    address = signed(url="http://localhost/api/me", presigned=60)
    assert holds(address.header("host", "localhost:8420"))
    assert holds(replace(request, headers=(*request.headers, ("Host", request.of("host"))))), "sent twice, alike"
    assert refused(request.header("host", "127.0.0.1:8421"))
    assert refused(request.header("host", "127.0.0.1"))


def test_headers_that_are_not_signed_are_free() -> None:
    request = signed()
    assert holds(request.header("user-agent", "curl").header("x-amz-user-agent", "aws-amplify"))


def test_aws_example() -> None:
    """`get-vanilla` of AWS's own suite: nothing here comes from the library that signs elsewhere in these tests."""
    headers = [
        ("host", "example.amazonaws.com"),
        ("x-amz-date", "20150830T123600Z"),
        ("authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
         "SignedHeaders=host;x-amz-date, "
         "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    ]  # fmt: skip
    claim = sigv4.from_request("GET", "/", "", headers)
    key = proof.signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", claim)
    assert proof.signed_by(claim, key, proof.EMPTY)
    assert claim.at == 1440938160
    assert not proof.signed_by(claim, key, proof.digest(b"x"))


@pytest.mark.parametrize("token", [None, "t/+="])
def test_a_call_of_boto3_stands(token: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unmodified client, as it would go out; the path is one that has to be escaped twice."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client = boto3.client(
        "bedrock-agentcore", region_name="us-west-2", endpoint_url="http://127.0.0.1:8420", aws_access_key_id=ID,
        aws_secret_access_key=SECRET, aws_session_token=token,
    )  # fmt: skip
    sent: list[AWSPreparedRequest] = []

    def caught(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        sent.append(request)
        return AWSResponse(request.url, 200, {"content-type": "application/json"}, None)

    client.meta.events.register("before-send.bedrock-agentcore.*", caught)
    arn = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/my_agent-AbCdEf1234"
    with at(NOW):
        client.invoke_agent_runtime(agentRuntimeArn=arn, payload=b'{"prompt":"hi"}', qualifier="DEFAULT")
    where = urlsplit(sent[0].url)
    headers = [(n, v.decode() if isinstance(v, bytes) else v) for n, v in sent[0].headers.items()]
    request = Request("POST", where.path, where.query, (("Host", where.netloc), *headers), sent[0].body)
    assert "%2Fmy_agent" in request.path
    assert holds(request)
    assert refused(replace(request, body=b'{"prompt":"ho"}'))


@pytest.mark.parametrize(("target", "headers"), [
    ("/?Param1=value2&Param2=value1", ()),
    ("/?Param2=value1&Param1=value2", ()),
    ("/?Param1=value1&Param1=Value2", None),
    ("/?Param1=&Param2", ()),
    (f"/?{quote(string.ascii_letters + '-._~')}={quote('ሴ')}", ()),
    ("/%E1%88%B4", ()),
    ("/", (("My-Header1", "value4"), ("My-Header1", "value1"), ("My-Header1", "value3"))),
    ("/", (("My-Header1", "  value1"), ("My-Header2", ' "a   b   c"'))),
    ("/a%20b/", ()),
    ("/runtimes/arn%3Aaws%3Abedrock-agentcore%3Aus-west-2%3A123456789012%3Aruntime%2Fx-AbCdEf1234/invocations", ()),
    ("/runtimes/arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/x-AbCdEf1234/ws", ()),
])  # fmt: skip
@pytest.mark.parametrize("presigned", [None, 300])
def test_the_cases_of_awss_suite(target: str, headers: Any, presigned: int | None) -> None:
    request = signed("GET", "http://example.amazonaws.com" + target, headers or (), presigned=presigned)
    if headers is None and presigned is None:  # the order of repeated names is not signed, so only one is taken
        assert refused(request)
    else:
        assert holds(request)


@pytest.mark.parametrize("path", ["//", "/a//b", "/./a", "/a/..", "/a/../b", "/..", "//a", "/a/./"])
def test_a_path_that_could_be_read_in_two_ways_is_refused(path: str) -> None:
    """botocore signs what is left when the dots are gone; what is routed is the path as sent."""
    with pytest.raises(BadSignature, match="path"):
        holds(signed(url="http://127.0.0.1:8420" + path))


@pytest.mark.parametrize("sent", ["k=b%2Bc", "k=b+c", "k=b%20c"])
@pytest.mark.parametrize("meant", ["k=b%2Bc", "k=b+c", "k=b%20c"])
def test_a_plus_is_a_blank_as_the_handlers_read_it(sent: str, meant: str) -> None:
    request = replace(signed(url=f"http://127.0.0.1:8420/api/me?{meant}"), query=sent)
    if unquote_plus(sent) != unquote_plus(meant):
        assert refused(request)
    elif sent == meant or "+" not in meant:
        assert holds(request)


def test_curl_before_8_signs_a_query_in_its_own_order() -> None:
    unsorted = "limit=5&cursor=x"
    request = signed(url="http://127.0.0.1:8420/api/sessions")
    claim = replace(request, query=unsorted).claim()
    assert any(f"\n{unsorted}\n".encode() in head for head in claim.heads)


# --- bad input ---


def authorization(change: Callable[[str], str]) -> Request:
    request = signed()
    return request.header("authorization", change(request.of("authorization")))


def scoped(index: int, part: str) -> Request:
    def change(text: str) -> str:
        credential = re.search(r"Credential=([^,]*)", text)
        assert credential is not None
        parts = credential[1].split("/")
        parts[index] = part
        return text.replace(credential[1], "/".join(parts))

    return authorization(change)


def unsigned(name: str) -> Request:
    request = signed(headers=(("x-amz-content-sha256", proof.EMPTY),), token="t")
    return request.header("authorization", request.of("authorization").replace(f"{name};", "").replace(f";{name}", ""))


def query(change: Callable[[str], str], expires: int = 60) -> Request:
    request = signed(presigned=expires, token="t")
    return replace(request, query=change(request.query))


def expiring(text: str) -> Request:
    return query(lambda q: q.replace("X-Amz-Expires=60", f"X-Amz-Expires={text}"))


def twice(request: Request, name: str) -> Request:
    return replace(request, headers=(*request.headers, (name, request.of(name))))


BAD: list[tuple[str, Request, str, str]] = [
    ("another secret", signed(key=(ID, "x" * 40)), "mismatch", ""),
    ("forged", authorization(lambda a: re.sub(r"[0-9a-f]{64}", "0" * 64, a)), "mismatch", ""),
    ("truncated signature", authorization(lambda a: a[:-1]), "malformed", "Signature"),
    ("longer signature", authorization(lambda a: a + "0"), "malformed", "Signature"),
    ("upper-case hex", authorization(lambda a: a[:-64] + a[-64:].upper()), "malformed", "Signature"),
    ("no hex", authorization(lambda a: a[:-1] + "g"), "malformed", "Signature"),
    ("truncated header", authorization(lambda a: a.split(", Signature")[0]), "malformed", "Authorization"),
    ("only the algorithm", authorization(lambda a: "AWS4-HMAC-SHA256"), "malformed", "Authorization"),
    ("another algorithm", authorization(lambda a: a.replace("SHA256", "SHA1", 1)), "malformed", "AWS4-HMAC-SHA256"),
    ("asymmetric", authorization(lambda a: a.replace("HMAC", "ECDSA-P256", 1)), "malformed", "AWS4-HMAC-SHA256"),
    ("a part twice", authorization(lambda a: a + ", Signature=" + "0" * 64), "malformed", "each once"),
    ("an unknown part", authorization(lambda a: a + ", Extra=1"), "malformed", "each once"),
    ("70 KB", authorization(lambda a: a + "," * 70_000), "malformed", "longer"),
    ("another service", scoped(3, "s3"), "scope", "service"),
    ("a service that is none", scoped(3, "S3!"), "malformed", "service"),
    ("another region", scoped(2, "eu-west-1"), "mismatch", ""),
    ("no region", scoped(2, ""), "malformed", "region"),
    ("another day", scoped(1, "20261120"), "scope", "date"),
    ("a day that is none", scoped(1, "tomorrow"), "malformed", "date"),
    ("no request scope", scoped(4, "aws4"), "malformed", "Credential"),
    ("too many scopes", scoped(4, "aws4_request/x"), "malformed", "Credential"),
    ("no key id", scoped(0, ""), "malformed", "access key"),
    ("a key id with signs", scoped(0, "PHKA-%"), "malformed", "access key"),
    ("host not signed", unsigned("host"), "unsigned", "host"),
    ("date not signed", unsigned("x-amz-date"), "unsigned", "x-amz-date"),
    ("token not signed", unsigned("x-amz-security-token"), "unsigned", "x-amz-security-token"),
    ("hash not signed", unsigned("x-amz-content-sha256"), "unsigned", "x-amz-content-sha256"),
    ("nothing signed", authorization(lambda a: a.replace("=host;x-amz-date", "=")), "malformed", "SignedHeaders"),
    ("upper-case name", authorization(lambda a: a.replace("=host", "=Host")), "malformed", "SignedHeaders"),
    ("a name twice", authorization(lambda a: a.replace("=host", "=host;host")), "malformed", "SignedHeaders"),
    ("a header that did not come", authorization(lambda a: a.replace("=host", "=accept;host")), "unsigned", "accept"),
    ("101 names", authorization(lambda a: a.replace("=host", "=host;" + ";".join(f"h{n}" for n in range(100)))),
     "malformed", "SignedHeaders"),
    ("no host", signed().header("host", None), "unsigned", "host"),
    ("two hosts", replace(signed(), headers=(*signed().headers, ("host", "evil.example"))), "malformed", "Host"),
    ("no date", signed().header("x-amz-date", None), "unsigned", "x-amz-date"),
    ("two dates", twice(signed(), "x-amz-date"), "malformed", "x-amz-date"),
    ("two tokens", twice(signed(token="t"), "x-amz-security-token"), "malformed", "x-amz-security-token"),
    ("no date at all", authorization(lambda a: a.replace(";x-amz-date", "")).header("x-amz-date", None),
     "malformed", "X-Amz-Date: missing"),
    ("a date of another form", signed().header("x-amz-date", "2026-11-21T12:00:00Z"), "malformed", "YYYYMMDD"),
    ("the 32nd", signed().header("x-amz-date", "20261132T120000Z"), "malformed", "YYYYMMDD"),
    ("the year 0", signed().header("x-amz-date", "00001101T120000Z"), "malformed", "YYYYMMDD"),
    ("Arabic digits", signed().header("x-amz-date", "٢٠٢٦١١٢١T120000Z"), "malformed", "YYYYMMDD"),
    ("two Authorizations", twice(signed(), "authorization"), "malformed", "2 times"),
    ("a bearer beside it", replace(signed(), headers=(*signed().headers, ("authorization", "Bearer x"))),
     "malformed", "2 times"),
    ("header and address", replace(signed(), query=signed(presigned=60).query), "malformed", "Two credentials"),
    ("no payload", signed(headers=(("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),)), "payload", "SHA-256"),
    ("streamed payload", signed(headers=(("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),)),
     "payload", "SHA-256"),
    ("a control character", signed(headers=(("x-c", "a"),)).header("x-c", "a\x01"), "malformed", "control"),
    ("a method that is none", replace(signed(), method="GET\nX"), "malformed", "method"),
    ("a path that is none", replace(signed(), path="api"), "malformed", "path"),
    ("a path with a line's end", replace(signed(), path="/a\nb"), "malformed", "path"),
    ("a query not in ASCII", replace(signed(), query="é"), "malformed", "query"),
    ("1001 parameters", replace(signed(), query="&".join(["a"] * 1001)), "malformed", "query"),
    ("expires 0", expiring("0"), "malformed", "X-Amz-Expires"),
    ("expires -1", expiring("-1"), "malformed", "X-Amz-Expires"),
    ("expires 301", expiring("301"), "malformed", "X-Amz-Expires"),
    ("expires never", expiring("9" * 400), "malformed", "X-Amz-Expires"),
    ("expires 1e2", expiring("1e2"), "malformed", "X-Amz-Expires"),
    ("expires ٣", expiring("%D9%A3"), "malformed", "X-Amz-Expires"),
    ("expires nothing", expiring(""), "malformed", "X-Amz-Expires"),
    ("expires later", expiring("61"), "mismatch", ""),
    ("signature twice", query(lambda q: q + "&X-Amz-Signature=" + "0" * 64), "malformed", "more than once"),
    ("signature twice, hidden", query(lambda q: q + "&X-Amz-%53ignature=" + "0" * 64), "malformed", "more than once"),
    ("credential twice", query(lambda q: q + "&" + q.split("&")[1]), "malformed", "more than once"),
    ("token twice", query(lambda q: q + "&X-Amz-Security-Token=t"), "malformed", "more than once"),
    ("token exchanged", query(lambda q: q.replace("Token=t", "Token=u")), "mismatch", ""),
    ("token taken away", query(lambda q: q.replace("&X-Amz-Security-Token=t", "")), "mismatch", ""),
    ("token in a header too", signed(presigned=60).header("x-amz-security-token", "t"), "malformed", "Two"),
    ("date in a header too", signed(presigned=60).header("x-amz-date", "20261121T120000Z"), "malformed", "Two"),
    ("no expires", query(lambda q: q.replace("X-Amz-Expires=60&", "")), "malformed", "X-Amz-Expires"),
    ("no algorithm", query(lambda q: q.replace("X-Amz-Algorithm=AWS4-HMAC-SHA256&", "")), "malformed", "Algorithm"),
    ("algorithm none", query(lambda q: q.replace("AWS4-HMAC-SHA256", "none")), "malformed", "Algorithm"),
    ("a parameter more", query(lambda q: q + "&a=1"), "mismatch", ""),
    ("an empty parameter more", query(lambda q: q + "&"), "mismatch", ""),
    ("its signature in upper case", query(lambda q: q[:-64] + q[-64:].upper()), "malformed", "Signature"),
    ("another method", replace(signed(presigned=60), method="POST"), "mismatch", ""),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "reason", "named"), [pytest.param(*case[1:], id=case[0]) for case in BAD])
def test_bad_input_is_refused_by_name(request_: Request, reason: str, named: str) -> None:
    if reason == "mismatch":
        assert not holds(request_)
        return
    with pytest.raises(BadSignature, match=re.escape(named)) as refusal:
        holds(request_)
    assert refusal.value.details == {"reason": reason}
    assert (refusal.value.status, refusal.value.code) == (401, "bad_signature")
    for secret in (SECRET, signed().of("authorization")[-64:]):
        assert secret not in refusal.value.message


@pytest.mark.parametrize(("age", "expires", "reason"), [
    (0, None, None), (WINDOW_S, None, None), (-WINDOW_S, None, None), (WINDOW_S + 1, None, "expired"),
    (-WINDOW_S - 1, None, "early"), (86_400, None, "expired"), (-86_400, None, "early"),
    (60, 60, None), (61, 60, "expired"), (300, 300, None), (301, 300, "expired"), (2, 1, "expired"),
    (-300, 1, None), (-301, 300, "early"),
])  # fmt: skip
def test_time(age: float, expires: int | None, reason: str | None) -> None:
    request = signed(presigned=expires)
    if reason is None:
        assert holds(request, now=NOW + age)
        return
    with pytest.raises(BadSignature, match="X-Amz-Date") as refusal:
        holds(request, now=NOW + age)
    assert refusal.value.details == {"reason": reason}


def test_place() -> None:
    claim = signed(service="appsync", region="eu-west-1").claim()
    claim.check(NOW)
    claim.check(NOW, services=frozenset({"appsync"}), region="eu-west-1")
    with pytest.raises(BadSignature, match="service"):
        claim.check(NOW, services=frozenset({"bedrock-agentcore"}))
    with pytest.raises(BadSignature, match="region"):
        claim.check(NOW, region="us-east-1")


def test_neither_secret_nor_signature_is_in_a_claims_text() -> None:
    request = signed(token="t0ken")
    shown = repr(request.claim())
    assert "t0ken" not in shown
    assert request.of("authorization")[-64:] not in shown


@pytest.mark.parametrize(("query", "authorizations", "meant"), [
    ("", [], False), ("a=1", ["Bearer x"], False), ("X-Amz-Foo=1", [], False), ("a=X-Amz-Signature", [], False),
    ("x-amz-signature=1", [], False),
    ("X-Amz-Signature=1", [], True), ("a&X-Amz-Credential", [], True), ("", ["AWS4-HMAC-SHA256 x"], True),
    ("", ["aws4-hmac-sha256 x"], True), ("", ["Bearer x", "AWS4-ECDSA-P256-SHA256"], True),
])  # fmt: skip
def test_what_means_to_be_signed(query: str, authorizations: list[str], meant: bool) -> None:
    assert sigv4.present(query, authorizations) is meant


# What a stranger may send: the right words in the wrong places, and anything at all.
WORDS = [
    "AWS4-HMAC-SHA256 ", "Credential=", "PHKA", "/20261121", "/us-east-1", "/appsync", "/aws4_request", ",",
    "SignedHeaders=", "host", ";", "x-amz-date", "Signature=", "0" * 64, "X-Amz-Expires=", "X-Amz-Signature=", "&",
    "X-Amz-Credential=", "X-Amz-SignedHeaders=", "X-Amz-Algorithm=", "X-Amz-Date=", "20261121T120000Z", "%", "=", "%0a",
]  # fmt: skip
anything = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=24).map("".join),
    st.text(max_size=40),
    st.text("%&=+;/.\x00\n\xff", max_size=20),
)
header_names = st.one_of(
    st.sampled_from(["authorization", "host", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"]), anything
)


@settings(MANY, max_examples=1000)
@given(anything, anything, anything, st.lists(st.tuples(header_names, anything), max_size=6))
def test_whatever_comes_is_a_claim_or_refused(method: str, path: str, query: str, headers: Any) -> None:
    sigv4.present(query, [value for _, value in headers])
    reads: list[Callable[[], sigv4.Claim]] = [
        lambda: sigv4.from_request(method, path, query, headers),
        lambda: sigv4.from_event(dict(headers), path),
    ]
    for read in reads:
        try:
            claim = read()
        except BadSignature as refusal:
            assert refusal.message
            assert len(refusal.message) < 500
        else:
            assert not proof.signed_by(claim, b"key", proof.EMPTY)


# --- frames of the event API ---

FORMS: dict[str, Callable[[Any], bytes]] = {
    "compact": lambda p: json.dumps(p, separators=(",", ":"), ensure_ascii=False).encode(),
    "python": lambda p: json.dumps(p).encode(),
    "compact ascii": lambda p: json.dumps(p, separators=(",", ":")).encode(),
    "wide": lambda p: json.dumps(p, ensure_ascii=False).encode(),
    "slashes": lambda p: json.dumps(p, separators=(",", ":"), ensure_ascii=False).replace("/", "\\/").encode(),
}
PAYLOADS: list[dict[str, Any]] = [
    {},
    {"channel": "/default/room"},
    {"channel": "default/é", "events": ['{"text":"日本 \\u0000 </b>"}', '"a/b"', "3"]},
]
AMPLIFY = (
    ("accept", "application/json, text/javascript"),
    ("content-encoding", "amz-1.0"),
    ("content-type", "application/json; charset=UTF-8"),
)


def framed(body: bytes, path: str = "/event", host: str = "127.0.0.1:8420", **how: Any) -> dict[str, str]:
    """An authorization object, as Amplify makes it."""
    request = signed("POST", f"http://{host}{path}", AMPLIFY, body, service="appsync", **how)
    return {n.lower(): v for n, v in request.headers} | {"x-amz-user-agent": "aws-amplify/6"}


def frame_holds(authorization: dict[str, Any], payload: dict[str, Any], path: str = "/event") -> bool:
    claim = sigv4.from_event(authorization, path)
    claim.check(NOW)
    key = proof.signing_key(SECRET, claim)
    return any(proof.signed_by(claim, key, one) for one in proof.event_digests(payload))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("token", [None, "t/+="])
def test_a_frame_stands_in_every_form_of_json(form: str, payload: dict[str, Any], token: str | None) -> None:
    made = framed(FORMS[form](payload), token=token)
    assert frame_holds(made, payload)
    assert frame_holds({n.title(): v for n, v in made.items()}, payload)
    assert sigv4.from_event(made, "/event").token == token
    assert not frame_holds(made, {**payload, "channel": "/default/other"})
    assert not frame_holds(made, payload, "/event/realtime")


def test_a_frame_may_sign_its_host_without_port_and_under_a_prefix() -> None:
    made = framed(b"{}", "/apis/abc/event", "localhost")
    assert frame_holds(made | {"host": "localhost:8420"}, {}, "/apis/abc/event")
    assert not frame_holds(made, {})


def test_half_a_character_is_signed_as_javascript_writes_it() -> None:
    made = framed(b'{"channel":"\\ud800"}')
    assert frame_holds(made, {"channel": "\ud800"})


@pytest.mark.parametrize(("change", "named"), [
    ({"authorization": None}, "Authorization"),
    ({"authorization": "Bearer x"}, "AWS4-HMAC-SHA256"),
    ({"host": None}, "host"),
    ({"x-amz-date": None}, "x-amz-date"),
    ({"x-amz-date": 7}, "no text"),
    ({"Host": "127.0.0.1:8420"}, "2 times"),
    ({"host": "127.0.0.1:8420\nx-amz-date:20261121T120000Z"}, "control"),
    ({"accept": "a\r\nb"}, "control"),
    ({"accept": "\ud800"}, "characters"),
    ({"x-amz-security-token": "t"}, "x-amz-security-token"),
    ({"x-amz-content-sha256": proof.EMPTY}, "x-amz-content-sha256"),
])  # fmt: skip
def test_bad_frames_are_refused_by_name(change: dict[str, Any], named: str) -> None:
    made: dict[str, Any] = framed(b"{}") | change
    with pytest.raises(BadSignature, match=named):
        frame_holds({n: v for n, v in made.items() if v is not None}, {})


# --- signing keys ---


def test_signing_keys_are_remembered_within_bounds() -> None:
    keys = SigningKeys(2)
    claims = [signed(region=region).claim() for region in ("a", "b", "c")]
    made = [proof.signing_key(SECRET, claim) for claim in claims]
    for claim, key in zip(claims, made, strict=True):
        assert keys.of(SECRET, claim) == key
        assert keys.of("another", claim) != key, "nothing is kept before it is proven"
        keys.keep(claim, key)
        assert keys.of("never asked", claim) == key
    assert keys.of("never asked", claims[0]) != made[0], "the oldest went"
    keys.drop(claims[2].access_key)
    assert keys.of("never asked", claims[2]) != made[2]
