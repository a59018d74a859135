"""What a session may reach besides the model: its own word, else the configuration's, and what people allowed it.

Going further than the configuration takes a scope: another policy `admin`, domains that are not listed `approve`, whose
holders could allow them one by one as well. Going less far is free.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pilothouse.core import reach
from pilothouse.core.access import Principal
from pilothouse.core.errors import BadRequest, Forbidden
from pilothouse.core.reach import Reach, Target
from pilothouse.engine import records
from pilothouse.engine.records import Egress, SessionRecord


def of(record: SessionRecord, configured: Reach) -> Reach:
    """What is in force. A document that cannot be read any more allows nothing."""
    own = record.egress or Egress()
    try:
        policy = reach.policy(own.policy, "policy") if own.policy else configured.policy
        listed = configured.domains if own.domains is None else reach.domains(own.domains, "domains")
        added = reach.domains(own.approved, "approved")
    except BadRequest:
        return Reach()
    domains = tuple(dict.fromkeys((*listed, *added)))
    return Reach(policy, domains if policy == "allow" else (), configured.ask_s if policy == "allow" else 0.0)


def wished(
    policy: str | None,
    domains: Sequence[str] | None,
    configured: Reach,
    who: Principal,
    *,
    second_person: bool = False,
) -> Egress | None:
    """What somebody wants for a session; None for nothing of one's own. `second_person`: where one has to agree to a
    domain, who could allow one alone may not list it either. Raises BadRequest, Forbidden."""
    if policy is None and domains is None:
        return None
    chosen = reach.policy(policy, "egress.policy") if policy is not None else configured.policy
    if domains is not None and chosen != "allow":
        raise BadRequest(f"egress.domains: they go with the policy allow, not with {chosen}")
    listed = reach.domains(domains, "egress.domains") if domains is not None else configured.domains
    further = reach.beyond(Reach(chosen, listed if domains is not None else ()), configured)
    if further:
        who.need("admin" if further == "policy" or second_person else "approve")
        if further == "policy" and not who.of_server:
            raise Forbidden("egress.policy: it reaches further than the server's; only an admin of the server may.")
    return Egress(policy=chosen, domains=[str(d) for d in listed] if domains is not None else None)


def added(record: SessionRecord, asked: Any) -> Egress:
    """With a domain that a person allowed; `asked` is the input of the approval."""
    own = record.egress or Egress()
    target = Target(str(asked["host"]), int(asked["port"]))
    kept = list(dict.fromkeys((*own.approved, str(target))))
    return records.copy(own, approved=kept[-reach.DOMAINS_MAX :])
