"""An issuer's addresses for signing people in, from its discovery document: `authorization_endpoint`, where browsers
go, and `token_endpoint`, which we ask (RFC 6749, section 4.1.3; the client's secret by `client_secret_basic`, or in the
form where the issuer knows only that)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus

from pilothouse.adapters.identity.documents import Away, Documents, NotFetched, check_address
from pilothouse.adapters.identity.keys import IssuerKeys
from pilothouse.core.claims import Issuer
from pilothouse.core.errors import Unauthenticated, Unavailable
from pilothouse.engine.kit import Note, silent


class Oidc:
    """`engine.providers.Provider`."""

    def __init__(self, documents: Documents, keys: IssuerKeys, note: Note = silent) -> None:
        self._documents = documents
        self._keys = keys
        self._note = note

    async def authorization(self, issuer: Issuer) -> tuple[str, bool]:
        """Raises Unavailable."""
        endpoints = await self._keys.endpoints(issuer)
        says_iss = endpoints.get("authorization_response_iss_parameter_supported") is True
        return self._endpoint(issuer, endpoints, "authorization_endpoint"), says_iss

    async def exchange(self, issuer: Issuer, code: str, verifier: str, redirect: str) -> str:
        """Raises Unauthenticated, Unavailable."""
        endpoints = await self._keys.endpoints(issuer)
        where = self._endpoint(issuer, endpoints, "token_endpoint")
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect,
            "code_verifier": verifier,
            "client_id": issuer.client_id,
        }
        headers: dict[str, str] = {}
        if issuer.client_secret:
            known = endpoints.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
            if isinstance(known, list) and "client_secret_basic" not in known and "client_secret_post" in known:
                form["client_secret"] = issuer.client_secret
            else:
                pair = f"{quote_plus(issuer.client_id)}:{quote_plus(issuer.client_secret)}"
                headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        try:
            found = await self._documents.post(issuer, where, form, headers)
        except Away as error:
            self._note("signin_failed", issuer=issuer.name, why=str(error))
            raise Unavailable("The provider does not answer now. Try again in a while.") from None
        except NotFetched as error:
            self._note("signin_failed", issuer=issuer.name, why=str(error))
            raise Unauthenticated("The provider did not confirm the sign-in. Begin again.") from None
        raw = found.get("id_token")
        if not isinstance(raw, str):
            self._note("signin_failed", issuer=issuer.name, why="no id_token; is `openid` among its scopes?")
            raise Unauthenticated("The provider's answer does not say who you are.")
        return raw

    def _endpoint(self, issuer: Issuer, endpoints: Mapping[str, Any], name: str) -> str:
        where = endpoints.get(name)
        try:
            if not isinstance(where, str):
                raise NotFetched(f"the discovery document has no {name}")
            check_address(issuer, where)
        except NotFetched as error:
            self._note("issuer_unusable", issuer=issuer.name, why=f"{name}: {error}")
            raise Unavailable("Signing in with this provider does not work now; the server's log says why.") from None
        return where
