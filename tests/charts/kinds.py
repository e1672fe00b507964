"""Kinds that Kubernetes itself does not know, as far as the chart uses them: closed JSON Schemas.

Written from the custom resources' own definitions: prometheus-operator v0.93 (ServiceMonitor, PrometheusRule), KEDA 2.20 (ScaledObject),
Gateway API v1.6 (HTTPRoute).
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
DURATION: Schema = {
    "type": "string",
    "pattern": r"^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$",
}
GATEWAY_DURATION: Schema = {"type": "string", "pattern": r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"}
PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
HOST: Schema = {"type": "string", "maxLength": 253, "pattern": r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"}


def section(required: str = "", **properties: Schema) -> Schema:
    """An object with these keys and no others."""
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": required.split()}


def some(items: Schema, most: int = 1000) -> Schema:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": most}


def kind(version: str, name: str, spec: Schema) -> Schema:
    metadata = section("name labels", name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS)
    return section("apiVersion kind metadata spec", apiVersion={"const": version}, kind={"const": name}, metadata=metadata, spec=spec)


RELABELING = section("action targetLabel", action={"enum": ["replace"]}, targetLabel=TEXT, replacement=TEXT)
ENDPOINT = section("port", port=TEXT, path=TEXT, interval=DURATION, honorLabels={"const": True}, relabelings=some(RELABELING))
SERVICE_MONITOR = section(
    "selector endpoints", selector=section("matchLabels", matchLabels=TEXTS), endpoints=some(ENDPOINT), targetLabels=some(TEXT)
)

RULE = {
    **section("expr", record=TEXT, alert=TEXT, expr={"type": ["string", "integer"]}, labels=TEXTS, annotations=TEXTS, **{"for": DURATION}),
    "oneOf": [{"required": ["record"]}, {"required": ["alert"]}],
}
RULES = section("groups", groups=some(section("name rules", name=TEXT, interval=DURATION, rules=some(RULE))))

POLICY = section(
    "type value periodSeconds", type={"enum": ["Pods", "Percent"]}, value={"type": "integer"}, periodSeconds={"type": "integer"}
)
SCALING = section(
    "policies",
    policies=some(POLICY),
    selectPolicy={"enum": ["Max", "Min", "Disabled"]},
    stabilizationWindowSeconds={"type": "integer", "minimum": 0, "maximum": 3600},
)
TRIGGER = section("type metadata", type=TEXT, metricType={"enum": ["Utilization", "AverageValue", "Value"]}, metadata=TEXTS)
SCALED_OBJECT = section(
    "scaleTargetRef triggers",
    scaleTargetRef=section("name", apiVersion=TEXT, kind=TEXT, name=TEXT),
    minReplicaCount={"type": "integer"},
    maxReplicaCount={"type": "integer"},
    pollingInterval={"type": "integer"},
    advanced=section(horizontalPodAutoscalerConfig=section(behavior=section(scaleUp=SCALING, scaleDown=SCALING))),
    triggers=some(TRIGGER),
)

MATCH = section(path=section("type value", type={"enum": ["Exact", "PathPrefix", "RegularExpression"]}, value=TEXT))
ROUTE_RULE = section(
    "backendRefs",
    matches=some(MATCH, 64),
    timeouts=section(request=GATEWAY_DURATION, backendRequest=GATEWAY_DURATION),
    backendRefs=some(section("name port", name=TEXT, port=PORT), 16),
)
HTTP_ROUTE = section(
    "parentRefs rules",
    parentRefs=some(section("name", name=TEXT, namespace=TEXT, sectionName=TEXT, port=PORT), 32),
    hostnames=some(HOST, 16),
    rules=some(ROUTE_RULE, 16),
)

KINDS: dict[str, Schema] = {
    "ServiceMonitor": kind("monitoring.coreos.com/v1", "ServiceMonitor", SERVICE_MONITOR),
    "PrometheusRule": kind("monitoring.coreos.com/v1", "PrometheusRule", RULES),
    "ScaledObject": kind("keda.sh/v1alpha1", "ScaledObject", SCALED_OBJECT),
    "HTTPRoute": kind("gateway.networking.k8s.io/v1", "HTTPRoute", HTTP_ROUTE),
}
