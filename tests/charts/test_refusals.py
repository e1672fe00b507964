"""What cannot work is refused when it is installed, and the key that is to be changed is named. Secrets stay in Secrets."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.charts.rendering import Object, helm, render, values, with_changes

GOOD: Object = {"insecure": True, "config": {"models": [{"name": "m", "backends": ["http://h:8000/v1"]}]}}
CANARY = "canary-7f3a9c"


def config(**sections: Any) -> Object:
    return {"config": sections}


def model(**keys: Any) -> Object:
    return config(models=[{"name": "m", "backends": ["http://h:8000/v1"], **keys}])


UNKNOWN: Mapping[str, tuple[Object, str, str]] = {
    "at the top": ({"replicaCount": 3}, "replicaCount", "at ''"),
    "in a section": ({"image": {"repo": "x"}}, "repo", "/image"),
    "in a section of the gateway": (config(server={"drain": 3}), "drain", "/config/server"),
    "a section of the gateway": (config(servers={}), "servers", "/config"),
    "in a model": (model(backend="x"), "backend", "/config/models/0"),
    "in one kind of discovery": (model(discovery={"type": "kubernetes", "svc": "x"}), "svc", "/config/models/0/discovery"),
    "in one kind of scorer": (config(balancing={"scorers": [{"type": "prefix", "block": 3}]}), "block", "/config/balancing/scorers/0"),
    "in a key": ({"keys": {"entries": [{"id": "a", "name": "a", "sha256": "0" * 64, "rps": 1}]}}, "rps", "/keys/entries/0"),
    "in an expert": ({"experts": {"a": {"gpu": 1}}}, "gpu", "/experts/a"),
    "in an expert's model": ({"experts": {"a": {"source": "x", "model": {"name": "b"}}}}, "name", "/experts/a/model"),
    "in a peer": ({"networkPolicy": {"clients": [{"pods": {}}]}}, "pods", "/networkPolicy/clients/0"),
    "in a toleration": ({"tolerations": [{"keys": "a"}]}, "keys", "/tolerations/0"),
    "in resources": ({"resources": {"limit": {}}}, "limit", "/resources"),
}

WRONG: Mapping[str, tuple[Object, str]] = {
    "a text for a number": ({"replicas": "three"}, "/replicas"),
    "a word that is none of them": ({"reload": "later"}, "/reload"),
    "a name that no object may have": ({"experts": {"A_b": {"source": "x"}}}, "A_b"),
    "a capability that there is not": (model(capabilities=["chats"]), "/config/models/0/capabilities/0"),
    "no port": ({"service": {"port": 0}}, "/service/port"),
    "a secret without its key": ({"secrets": {"existing": {"A": {"name": "s"}}}}, "/secrets/existing/A"),
}

IMPOSSIBLE: Mapping[str, tuple[Object, str]] = {
    "nobody could call": ({"insecure": False}, "keys.existingSecret"),
    "a keys file that no Secret holds": ({"insecure": False, **config(auth={"keys": "keys.yaml"})}, "keys.existingSecret"),
    "keys and an open door": ({"keys": {"existingSecret": "k"}}, "insecure"),
    "two keys files": (
        {"insecure": False, "keys": {"existingSecret": "k", "entries": [{"id": "a", "name": "a", "sha256": "0" * 64}]}},
        "keys.entries",
    ),
    "a keys file elsewhere": (
        {"insecure": False, "keys": {"existingSecret": "k"}, **config(auth={"keys": "/keys.yaml"})},
        "config.auth.keys",
    ),
    "a variable that no Secret gives": (model(api_key="${VLLM_KEY}"), "secrets.existing.VLLM_KEY"),
    "a variable within a text": (config(redis={"url": "redis://:${PASS}@r:6379/0"}), "secrets.existing.PASS"),
    "a token that no Secret gives": ({"experts": {"a": {"source": "x", "huggingFaceToken": "HF"}}}, "secrets.existing.HF"),
    "a secret given twice": ({"secrets": {"values": {"A": "x"}, "existing": {"A": {"name": "s", "key": "k"}}}}, "secrets.values.A"),
    "no model at all": (config(models=[]), "config.models"),
    "a route over nothing": (config(routes=[{"name": "r", "models": ["n"]}]), "config.routes[0].models"),
    "an expert with a model's name": ({"experts": {"m": {"source": "x"}}}, "experts"),
    "an expert of nothing": ({"experts": {"a": {}}}, "experts.a.source"),
    "replicas that share one disk": ({"experts": {"a": {"source": "x", "replicas": 2}}}, "experts.a.cache.accessMode"),
    "an artifact that is nowhere": (
        config(routes=[{"name": "r", "models": ["m"], "policy": {"scorers": [{"type": "knn", "artifact": "artifacts/knn"}]}}]),
        "artifacts.existingClaim",
    ),
    "a ledger where nothing can be written": (config(ledger={"path": "/var/log/ledger.jsonl"}), "config.ledger.path"),
    "a grace period that cannot be computed": (config(server={"drain_seconds": "${D:-30}"}), "config.server.drain_seconds"),
    "gateways that would undo each other's work": (config(residency=[{"models": ["m", "n"], "capacity": 1}]), "replicas"),
    "a state that several would write": ({"state": {"size": "1Gi"}}, "state.accessMode"),
    "two Redis": ({"redis": {"enabled": True}, **config(redis={"url": "redis://r:6379/0"})}, "redis.enabled"),
    "a ledger in no Redis": (config(ledger={"redis": True}), "config.redis.url"),
    "scaling by an unknown Prometheus": ({"autoscaling": {"enabled": True, "by": "keda"}}, "autoscaling.prometheus.serverAddress"),
    "fewer at most than at least": ({"autoscaling": {"enabled": True, "minReplicas": 9, "maxReplicas": 3}}, "autoscaling.minReplicas"),
    "ports that nobody says": (
        {"networkPolicy": {"enabled": True}, **config(models=[{"name": "m", "discovery": {"type": "kubernetes", "service": "v"}}])},
        "networkPolicy.expertPorts",
    ),
    "a collector that nobody reaches": (
        {"networkPolicy": {"enabled": True}, **config(tracing={"endpoint": "http://c:4318"})},
        "networkPolicy.otlp",
    ),
    "a collector's key that no Secret gives": (config(tracing={"headers": {"authorization": "Bearer ${OTLP}"}}), "secrets.existing.OTLP"),
    "a collector's key in the open": (config(tracing={"headers": {"X-Api-Key": "abc"}}), "config.tracing.headers.X-Api-Key"),
    "an Ingress for no host": ({"ingress": {"enabled": True}}, "ingress.hosts"),
    "a route of no Gateway": ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs"),
    "an account without a name": ({"serviceAccount": {"create": False}}, "serviceAccount.name"),
    "half a key for the test": ({"tests": {"key": {"name": "s"}}}, "tests.key.key"),
}


def test_what_the_bad_values_are_made_from_is_good() -> None:
    render(GOOD)


@pytest.mark.parametrize("case", UNKNOWN)
def test_an_unknown_key_is_refused_by_name_and_place(case: str) -> None:
    changes, key, place = UNKNOWN[case]
    with pytest.raises(helm.errors.HelmValuesError) as refused:
        render(with_changes(GOOD, changes))
    assert f"'{key}' not allowed" in str(refused.value)
    assert place in str(refused.value)


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_value_is_refused_by_its_place(case: str) -> None:
    changes, place = WRONG[case]
    with pytest.raises(helm.errors.HelmValuesError) as refused:
        render(with_changes(GOOD, changes))
    assert place in str(refused.value)


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_cannot_work_is_refused_by_the_key_to_change(case: str) -> None:
    changes, key = IMPOSSIBLE[case]
    with pytest.raises(helm.errors.HelmRenderError) as refused:
        render(with_changes(GOOD, changes))
    assert f"\n  {key}: " in str(refused.value)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(helm.errors.HelmRenderError) as refused:
        render(with_changes(GOOD, {"insecure": False, "ingress": {"enabled": True}, "experts": {"a": {}}}))
    assert [line.split(":")[0].strip() for line in str(refused.value).splitlines()[1:]] == [
        "keys.existingSecret",
        "experts.a.source",
        "ingress.hosts",
    ]


def test_without_values_the_chart_says_what_it_needs() -> None:
    with pytest.raises(helm.errors.HelmRenderError) as refused:
        render({})
    assert "values-minimal.yaml" in str(refused.value)


@pytest.mark.parametrize("key", ["secrets", "env", "experts", "podLabels", "tolerations"])
def test_null_takes_a_default_away(key: str) -> None:
    render(with_changes(GOOD, {key: {"values": None, "existing": None} if key == "secrets" else None}))


def test_a_parent_chart_may_pass_its_own_values_down() -> None:
    render({**GOOD, "global": {"imageRegistry": "x"}})


def test_a_secret_stands_in_secrets_alone() -> None:
    secrets = {"VLLM_KEY": f"{CANARY}-vllm", "HF_TOKEN": f"{CANARY}-hf", "PASS": f"{CANARY}-redis", "OTLP": f"{CANARY}-otlp"}
    changes = {
        "redis": {"enabled": False},
        "config": {
            "redis": {"url": "redis://:${PASS}@redis:6379/0"},
            "tracing": {"endpoint": "http://c:4318", "headers": {"authorization": "Bearer ${OTLP}"}},
        },
        "keys": {"existingSecret": "", "entries": [{"id": "key_1", "name": "a", "sha256": CANARY.encode().hex().ljust(64, "0")}]},
        "networkPolicy": {"otlp": [{"namespaceSelector": {}}]},
        "monitoring": {"rules": {"enabled": True}, "dashboards": {"enabled": True}},
    }
    rendered = render({**with_changes(values("gpu"), changes), "secrets": {"values": secrets}})
    kept = {name: base64.b64decode(data).decode() for one in rendered.of("Secret") for name, data in one["data"].items()}
    assert {name: kept[name] for name in secrets} == secrets
    assert CANARY.encode().hex() in kept["keys.yaml"]
    others = json.dumps([one for one in rendered.objects if one["kind"] != "Secret"]) + rendered.notes
    for trace in (CANARY, CANARY.encode().hex(), base64.b64encode(CANARY.encode()).decode().rstrip("=")[:-1]):
        assert trace not in others


LEAKS: Mapping[str, Object] = {
    "a model's key": model(api_key=CANARY),
    "a default": model(api_key=f"${{KEY:-{CANARY}}}"),
    "a password in a URL": config(redis={"url": f"redis://u:{CANARY}@r:6379/0"}),
    "a password alone": config(redis={"url": f"rediss://:{CANARY}@r:6379/0"}),
    "half a password": {**config(redis={"url": f"redis://:{CANARY}${{A}}@r:6379/0"}), "env": {"A": "x"}},
    "a collector's key": config(tracing={"endpoint": "http://c:4318", "headers": {"authorization": f"Bearer {CANARY}"}}),
    "half a collector's key": {**config(tracing={"headers": {"x-api-key": f"{CANARY}${{A}}"}}), "env": {"A": "x"}},
    "a Sentinel's": config(redis={"url": f"redis+sentinel://a:1,b:2/main?sentinel_password={CANARY}&sentinel_username=u"}),
}


@pytest.mark.parametrize("case", LEAKS)
def test_a_secret_that_would_stand_in_the_configmap_is_refused_and_not_shown(case: str) -> None:
    with pytest.raises(helm.errors.HelmRenderError) as refused:
        render(with_changes(GOOD, LEAKS[case]))
    assert "ConfigMap" in str(refused.value)
    assert CANARY not in str(refused.value)


def test_urls_without_a_password_are_no_leak() -> None:
    for url in (
        "redis://r:6379/0",
        "redis+cluster://a:1,b:2",
        "redis://:${A}@r:6379/0",
        "redis://u:${A}@r:6379/0",
        "unix:///run/redis.sock",
    ):
        render(with_changes(GOOD, {**config(redis={"url": url}), "env": {"A": "x"}}))


def test_a_change_of_the_configuration_replaces_the_pods_or_does_not() -> None:
    for reload, replaced in (("rollout", True), ("live", False)):
        before = with_changes(GOOD, {"reload": reload})
        after = with_changes(before, config(cache={"size": 5}))
        pods = [render(given).one("Deployment")["spec"]["template"] for given in (before, after)]
        assert (pods[0] != pods[1]) is replaced
        assert render(before).gateway_yaml != render(after).gateway_yaml


def test_a_change_of_a_secret_replaces_the_pods_and_one_of_the_keys_does_not() -> None:
    """Variables are read at the start; the keys file is watched."""

    def pod(changes: Object) -> Object:
        found: Object = render(with_changes(GOOD, changes)).one("Deployment")["spec"]["template"]
        return found

    assert pod({"secrets": {"values": {"A": "x"}}}) != pod({"secrets": {"values": {"A": "y"}}})
    one, other = ({"insecure": False, "keys": {"entries": [{"id": id, "name": "a", "sha256": "0" * 64}]}} for id in ("a", "b"))
    assert pod(one) == pod(other)
