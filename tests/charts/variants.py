"""Values that turn on what the values files leave off, each on top of one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Values = Mapping[str, Any]

SLEEPERS = {"models": ["small", "medium"], "capacity": 1}
ADAPTERS = {"models": ["sql", "law"], "how": "lora", "capacity": 1, "paths": {"sql": "/models/sql", "law": "/models/law"}}

VARIANTS: Mapping[str, tuple[str, Values]] = {
    "ingress of nginx": ("minimal", {"ingress": {"enabled": True, "hosts": ["a.example.com"], "tlsSecret": "cert", "className": "nginx"}}),
    "ingress of haproxy": ("minimal", {"ingress": {"enabled": True, "controller": "haproxy", "hosts": ["a.example.com"]}}),
    "ingress of AWS": ("minimal", {"ingress": {"enabled": True, "controller": "alb", "hosts": ["a.example.com"]}, "timeoutSeconds": 5000}),
    "bare ingress": ("minimal", {"ingress": {"enabled": True, "controller": "none", "hosts": ["a.example.com", "b.example.com"]}}),
    "KEDA": (
        "production",
        {"autoscaling": {"by": "keda", "prometheus": {"serverAddress": "http://prometheus:9090"}}},
    ),
    "metrics of pods": ("production", {"autoscaling": {"podMetrics": [{"name": "pointsman_backend_inflight", "averageValue": 200}]}}),
    "a claim for the state": (
        "minimal",
        {"state": {"size": "10Gi", "storageClass": "fast"}, "config": {"ledger": {"path": "ledger.jsonl"}}},
    ),
    "artifacts in a claim": ("minimal", {"artifacts": {"existingClaim": "routers"}}),
    "artifacts in an image": ("minimal", {"artifacts": {"image": "images.example.com/llm/routers:1"}}),
    "workers": ("minimal", {"workers": 4, "service": {"type": "LoadBalancer", "annotations": {"a": "b"}}}),
    "live": ("minimal", {"reload": "live"}),
    "keys and secrets of its own": (
        "minimal",
        {
            "insecure": False,
            "keys": {"entries": [{"id": "key_1", "name": "alice", "sha256": "0" * 64, "rpm": 60, "budget_usd": 20.5}]},
            "secrets": {"values": {"REDIS_PASSWORD": "pass"}},
            "env": {"LANG": "C.UTF-8"},
            "config": {"redis": {"url": "redis://:${REDIS_PASSWORD}@redis:6379/0"}},
        },
    ),
    "tokens of an issuer": (
        "minimal",
        {
            "insecure": False,
            "networkPolicy": {"enabled": True},
            "config": {"auth": {"jwt": {"jwks_url": "https://id.example.com/jwks", "issuer": "https://id.example.com", "audience": "llm"}}},
        },
    ),
    "placed": (
        "minimal",
        {
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "priorityClassName": "high",
            "podLabels": {"team": "llm"},
            "podAnnotations": {"note": "yes"},
            "topologySpread": {"keys": []},
            "preStopSeconds": 0,
            "podDisruptionBudget": {"maxUnavailable": "25%"},
        },
    ),
    "an account of somebody else": ("fake", {"serviceAccount": {"create": False, "name": "other"}, "rbac": {"create": False}}),
    "by DNS": ("fake", {"expertDefaults": {"reach": "dns"}, "tests": {"enabled": False}}),
    "by names": ("fake", {"expertDefaults": {"reach": "url"}, "runAsUser": None}),
    "turns by sleep": ("fake", {"replicas": 1, "config": {"residency": [SLEEPERS]}, "experts": {"medium": {"replicas": 1}}}),
    "turns by adapters": (
        "gpu",
        {
            "replicas": 1,
            "config": {"residency": [ADAPTERS]},
            "experts": {"large": {"adapters": {"sql": {"source": "/models/sql"}, "law": {"source": "/models/law"}}}},
        },
    ),
    "old images as root": ("gpu", {"expertDefaults": {"runAsUser": 0, "runtimeClassName": "nvidia"}}),
    "no cache": ("gpu", {"expertDefaults": {"cache": {"enabled": False}}, "experts": {"small": {"gpus": 0}}}),
    "a cache that exists": ("gpu", {"expertDefaults": {"cache": {"existingClaim": "weights"}}}),
    "everything watched": (
        "fake",
        {
            "networkPolicy": {"enabled": True, "clients": [{"podSelector": {"matchLabels": {"app": "chat"}}}]},
            "monitoring": {"serviceMonitor": {"enabled": True}, "rules": {"enabled": True}, "dashboards": {"enabled": True}},
        },
    ),
    "named otherwise": ("fake", {"fullnameOverride": "router", "monitoring": {"serviceMonitor": {"enabled": True}}}),
}
