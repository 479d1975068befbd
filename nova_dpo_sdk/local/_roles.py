"""Who may do what: the roles that HyperPod's Helm charts grant, and an administrator."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from nova_dpo_sdk.errors import ConfigurationError

from ._resources import KINDS, RULES_REVIEWS, SELF_REVIEWS, Kind

_GROUPS = {kind.plural: kind.group for kind in KINDS}


@dataclass(frozen=True)
class Grant:
    """Verbs on one resource, in the namespaces that match a pattern.

    Attributes:
        resource: Plural name, or `*`; a subresource is named `pytorchjobs/status`.
        verbs: Verbs, or `*`.
        namespace: Pattern of namespaces; empty for the whole cluster.
    """

    resource: str
    verbs: frozenset[str]
    namespace: str = ""

    def covers(self, verb: str, resource: str, namespace: str) -> bool:
        """Whether this grant allows the request; `namespace` is empty for one over the whole cluster."""
        return (
            self.resource in {"*", resource}
            and bool(self.verbs & {verb, "*"})
            and (not self.namespace or fnmatchcase(namespace, self.namespace))
        )


@dataclass(frozen=True)
class Role:
    """A named set of grants."""

    name: str
    grants: tuple[Grant, ...]

    def allows(self, verb: str, resource: str, namespace: str, group: str) -> bool:
        """Whether any grant covers the request."""
        granted = [grant for grant in self.grants if grant.covers(verb, resource, namespace)]
        known = _GROUPS.get(resource.partition("/")[0], group)
        return any(group == known or grant.resource == "*" for grant in granted)

    def rules(self, namespace: str) -> list[dict[str, list[str]]]:
        """The grants that hold in a namespace, as an access review lists them."""
        return [
            {
                "verbs": sorted(each.verbs),
                "apiGroups": [_GROUPS.get(each.resource.partition("/")[0], "*")],
                "resources": [each.resource],
            }
            for each in self.grants
            if not each.namespace or fnmatchcase(namespace, each.namespace)
        ]

    def allows_kind(self, verb: str, kind: Kind, subresource: str, namespace: str) -> bool:
        """The same, for a request to the API; everybody may ask what they may do."""
        if kind in (SELF_REVIEWS, RULES_REVIEWS):
            return verb == "create"
        return self.allows(verb, f"{kind.plural}/{subresource}" if subresource else kind.plural, namespace, kind.group)


def _grant(resource: str, verbs: str, namespace: str = "") -> Grant:
    return Grant(resource, frozenset(verbs.split()), namespace)


_TEAMS = "hyperpod-ns-*"
_SCIENTIST = (
    _grant("pytorchjobs", "get list create delete update", "kubeflow"),
    _grant("configmaps", "create update get delete list", "kubeflow"),
    _grant("pods", "create get", "kubeflow"),
)

ROLES = {
    role.name: role
    for role in (
        Role("administrator", (_grant("*", "*"),)),
        Role("namespaced", _SCIENTIST),
        Role("scientist", (*_SCIENTIST, _grant("pods", "list"), _grant("nodes", "list"))),
        Role(
            "team",
            (
                _grant("pytorchjobs", "get list watch create delete update", _TEAMS),
                _grant("configmaps", "create update get delete", _TEAMS),
                _grant("pods", "list watch", _TEAMS),
                _grant("workloads", "get list watch patch", _TEAMS),
                _grant("namespaces", "get"),
            ),
        ),
        Role("unmapped", ()),
    )
}
"""By name. `namespaced` is the chart's role in `kubeflow`; `scientist` has the chart's cluster role too;
`team` is the role of task governance; `unmapped` is an identity without an EKS access entry."""


def role_of(role: str | Role) -> Role:
    """The role of that name, or the role itself.

    Raises:
        ConfigurationError: No role has that name.
    """
    if isinstance(role, Role):
        return role
    try:
        return ROLES[role]
    except KeyError:
        raise ConfigurationError(f"role {role!r} is none of {', '.join(ROLES)}") from None
