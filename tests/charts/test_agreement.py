"""The objects of a release agree with each other, with the image, and with the gateway."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache

import httpx
import pytest
import yaml

from backends.discovery.cluster import Cluster, EndpointSlices
from gateway.account.metrics import BackendState, Metrics
from tests.charts.rendering import ROOT, VALUES_FILES, Object, Rendered, render, render_file, selects, values, with_changes
from tests.charts.variants import VARIANTS

OF_THE_CLUSTER = {"gpu": {"pointsman-keys", "pointsman-env"}, "production": {"pointsman-keys", "pointsman-env", "pointsman-test-key"}}
CLAIMS = {"artifacts in a claim": {"routers"}, "a cache that exists": {"weights"}}


@cache
def release(name: str) -> Rendered:
    """That of a values file, or of a variant. Not to be changed."""
    if name in VALUES_FILES:
        return render_file(name)
    base, changes = VARIANTS[name]
    return render(with_changes(values(base), changes))


RELEASES = pytest.mark.parametrize("name", [*VALUES_FILES, *(pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS)])


def pods_of(rendered: Rendered, selector: Object) -> list[tuple[Object, Object]]:
    return [(owner, pod) for owner, pod in rendered.pods() if selects(selector, pod["metadata"]["labels"])]


@RELEASES
def test_selectors_find_the_pods_that_they_mean(name: str) -> None:
    rendered = release(name)
    for one in rendered.of("Deployment"):
        assert [owner for owner, _ in pods_of(rendered, one["spec"]["selector"]["matchLabels"])] == [one]
    for one in rendered.of("Service"):
        assert len(pods_of(rendered, one["spec"]["selector"])) == 1, one["metadata"]["name"]
    for one in rendered.of("PodDisruptionBudget"):
        assert len(pods_of(rendered, one["spec"]["selector"]["matchLabels"])) == 1
    for one in rendered.of("NetworkPolicy"):
        assert pods_of(rendered, one["spec"]["podSelector"]["matchLabels"]), one["metadata"]["name"]
    for one in rendered.of("ServiceMonitor"):
        found = [other for other in rendered.of("Service") if selects(one["spec"]["selector"]["matchLabels"], other["metadata"]["labels"])]
        assert found, one["metadata"]["name"]
        assert all(
            endpoint["port"] in {port["name"] for port in other["spec"]["ports"]}
            for other in found
            for endpoint in one["spec"]["endpoints"]
        )


@RELEASES
def test_pods_keep_their_labels_when_the_chart_gets_a_new_version(name: str) -> None:
    for _, pod in release(name).pods():
        if "helm.sh/hook" not in pod["metadata"].get("annotations", {}):
            assert "helm.sh/chart" not in pod["metadata"]["labels"]


@RELEASES
def test_ports_agree(name: str) -> None:
    rendered = release(name)
    services = {one["metadata"]["name"]: one for one in rendered.of("Service")}
    for service in services.values():
        (_, pod), *_ = pods_of(rendered, service["spec"]["selector"])
        names = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    for one in rendered.of("Ingress"):
        backends = [path["backend"]["service"] for rule in one["spec"]["rules"] for path in rule["http"]["paths"]]
        assert {(backend["name"], backend["port"]["name"]) for backend in backends} == {("pointsman", "http")}
    for one in rendered.of("HTTPRoute"):
        references = [reference for rule in one["spec"]["rules"] for reference in rule["backendRefs"]]
        assert [(r["name"], r["port"]) for r in references] == [("pointsman", services["pointsman"]["spec"]["ports"][0]["port"])]
    for container in rendered.containers():
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        for probe in (container[key] for key in ("startupProbe", "livenessProbe", "readinessProbe") if key in container):
            assert probe.get("httpGet", probe.get("tcpSocket"))["port"] in ports
        words = " ".join(container.get("args", []))
        if told := re.search(r"--port[= ](\d+)", words):
            assert ports["http"] == int(told[1])
            assert re.search(r"--host[= ]0\.0\.0\.0", words)


@RELEASES
def test_the_gateway_finds_the_experts_of_the_chart(name: str) -> None:
    """By names that are Services of the release, on ports that they have."""
    rendered = release(name)
    services = {one["metadata"]["name"]: one["spec"]["ports"][0] for one in rendered.of("Service")}
    found = set()
    for model in yaml.safe_load(rendered.gateway_yaml)["models"]:
        section = model.get("discovery", {})
        if section.get("service", "").startswith(("pointsman-", "router-")) and "namespace" not in section:
            assert services[section["service"]]["name"] == section["port"]
            found.add(section["service"])
        elif section.get("type") == "dns":
            service = section["name"].removesuffix(".llm.svc.cluster.local.")
            assert services[service]["port"] == section["port"]
            found.add(service)
        for url in model.get("backends", []):
            if httpx.URL(url).host in services:
                assert services[httpx.URL(url).host]["port"] == httpx.URL(url).port
                found.add(httpx.URL(url).host)
    assert found == {one["metadata"]["name"] for one in rendered.of("Service") if "pointsman-expert" in one["metadata"]["labels"]}


@RELEASES
def test_the_gateway_finds_the_redis_of_the_chart(name: str) -> None:
    rendered = release(name)
    url = yaml.safe_load(rendered.gateway_yaml).get("redis", {}).get("url", "")
    for one in rendered.of("Service"):
        if one["metadata"]["labels"]["app.kubernetes.io/component"] == "redis":
            assert url == f"redis://{one['metadata']['name']}:{one['spec']['ports'][0]['port']}/0"


@RELEASES
def test_whatever_is_mounted_or_read_is_there(name: str) -> None:
    rendered = release(name)
    base = name if name in VALUES_FILES else VARIANTS[name][0]
    foreign = OF_THE_CLUSTER.get(base, set())
    made = {(one["kind"], one["metadata"]["name"]): one for one in rendered.objects}
    for _, pod in rendered.pods():
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        mounted = {mount["name"] for container in pod["spec"]["containers"] for mount in container.get("volumeMounts", [])}
        assert mounted == set(volumes)
        for kind, source in sources(volumes.values()):
            key = (kind, source["name"])
            assert key in made or source["name"] in foreign | CLAIMS.get(name, set()), key
            if key in made:
                assert {item["key"] for item in source.get("items", [])} <= set(made[key].get("data", {}))
        for container in pod["spec"]["containers"]:
            for variable in container.get("env", []):
                if "valueFrom" in variable:
                    reference = variable["valueFrom"]["secretKeyRef"]
                    secret = made.get(("Secret", reference["name"]))
                    assert reference["key"] in secret["data"] if secret else reference["name"] in foreign


def sources(volumes: Iterable[Object]) -> Iterator[tuple[str, Object]]:
    """The objects that volumes are filled from, by kind."""
    for volume in volumes:
        parts = [volume, *volume.get("projected", {}).get("sources", [])]
        for part in parts:
            for key, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
                if key in part:
                    yield kind, part[key]
            if "persistentVolumeClaim" in part:
                yield "PersistentVolumeClaim", {"name": part["persistentVolumeClaim"]["claimName"]}


@RELEASES
def test_the_gateway_reads_the_files_that_are_mounted(name: str) -> None:
    rendered = release(name)
    for one in rendered.of("Deployment"):
        for container in one["spec"]["template"]["spec"]["containers"]:
            if container["name"] != "gateway":
                continue
            folders = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert f"--config={folders['config']}/gateway.yaml" in container["args"]
            assert "subPath" not in str(container["volumeMounts"]), "what is mounted so never changes"
            config = yaml.safe_load(rendered.gateway_yaml)
            volume = next(v for v in one["spec"]["template"]["spec"]["volumes"] if v["name"] == "config")
            paths = [item["path"] for source in volume["projected"]["sources"] for item in source.get("secret", {}).get("items", [])]
            assert paths == [config["auth"]["keys"]] if "keys" in config.get("auth", {}) else paths == []
            assert ("--insecure" in container["args"]) == ("auth" not in config)


@RELEASES
def test_pods_are_restricted(name: str) -> None:
    """As the pod security standard of that name wants it; and their root file systems are read-only."""
    for owner, pod in release(name).pods():
        root = pod["spec"]["securityContext"].get("runAsUser") == 0
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is not root
        assert not root or name == "old images as root"
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["spec"]["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, owner["metadata"]["name"]
        assert pod["spec"]["enableServiceLinks"] is False


@RELEASES
def test_the_grace_period_is_pre_stop_and_drain_and_15(name: str) -> None:
    rendered = release(name)
    server = yaml.safe_load(rendered.gateway_yaml)["server"]
    for owner, pod in rendered.pods():
        if owner["kind"] != "Deployment" or owner["metadata"]["labels"]["app.kubernetes.io/component"] == "redis":
            continue
        container = pod["spec"]["containers"][0]
        hook = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if container["name"] == "gateway":
            own = server["pre_stop_seconds"] + server["drain_seconds"]
        elif container["name"] == "vllm":
            own = int(container["args"][container["args"].index("--shutdown-timeout") + 1])
        else:
            continue
        assert pod["spec"]["terminationGracePeriodSeconds"] == hook + own + 15


def test_the_grace_period_counts_fractions_and_defaults() -> None:
    given = with_changes(values("minimal"), {"preStopSeconds": 7, "config": {"server": {"pre_stop_seconds": 2.25, "drain_seconds": 1}}})
    assert render(given).one("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 26


@RELEASES
def test_the_right_to_read_slices_is_given_where_they_are_read(name: str) -> None:
    rendered = release(name)
    sections = [model.get("discovery", {}) for model in yaml.safe_load(rendered.gateway_yaml)["models"]]
    wanted = {section.get("namespace", "llm") for section in sections if section.get("type") == "kubernetes"}
    spec = next(pod["spec"] for owner, pod in rendered.pods() if owner["metadata"]["name"] in ("pointsman", "router"))
    assert spec["automountServiceAccountToken"] is bool(wanted)
    if name == "an account of somebody else":
        assert rendered.of("Role", "RoleBinding", "ServiceAccount") == []
        assert spec["serviceAccountName"] == "other"
        return
    assert {role["metadata"]["namespace"] for role in rendered.of("Role")} == wanted
    roles = {(role["metadata"]["namespace"], role["metadata"]["name"]) for role in rendered.of("Role")}
    for binding in rendered.of("RoleBinding"):
        assert (binding["metadata"]["namespace"], binding["roleRef"]["name"]) in roles
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": spec["serviceAccountName"], "namespace": "llm"}]
    assert len(rendered.of("RoleBinding")) == len(roles)
    assert spec["serviceAccountName"] in {account["metadata"]["name"] for account in rendered.of("ServiceAccount")}


async def test_the_right_is_that_which_discovery_uses() -> None:
    """Read from what it asks the API server."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"metadata": {"resourceVersion": "1"}, "items": []})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="https://cluster") as client:
        slices = EndpointSlices(Cluster("https://cluster", "models", None, None), "a=b")
        _, version = await slices.list(client)
        async with slices.watch(client, version, 1.0):
            pass
    used = {(*request.url.path.split("/")[2:4], *request.url.path.split("/")[5:7], watches(request)) for request in asked}
    assert used == {("discovery.k8s.io", "v1", "models", "endpointslices", verb) for verb in ("list", "watch")}
    for role in release("production").of("Role"):
        (rule,) = role["rules"]
        assert (rule["apiGroups"], rule["resources"]) == (["discovery.k8s.io"], ["endpointslices"])
        assert set(rule["verbs"]) == {"get", "list", "watch"}


def watches(request: httpx.Request) -> str:
    return "watch" if request.url.params.get("watch") == "true" else "list"


def series() -> set[str]:
    """Every name that a gateway's metrics may have."""
    metrics = Metrics()
    metrics.watch_backends(lambda: [BackendState("model", "backend", True, 0, 0, 0.0, 1.0)])
    found = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", metrics.text().decode(), re.MULTILINE):
        found |= {f"{name}{ending}" for ending in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    return found


def test_rules_and_scaling_name_metrics_that_exist() -> None:
    known = series()
    rules = [rule for group in release("everything watched").one("PrometheusRule")["spec"]["groups"] for rule in group["rules"]]
    triggers = release("KEDA").one("ScaledObject")["spec"]["triggers"]
    expressions = [str(rule["expr"]) for rule in rules] + [trigger["metadata"].get("query", "") for trigger in triggers]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    names = {name for text in expressions for name in re.findall(r"[a-z_:]*pointsman[a-z_:0-9]+", re.sub(r'"[^"]*"', "", text))}
    assert names
    assert names - known - recorded == set()
    adapter = release("metrics of pods").one("HorizontalPodAutoscaler")["spec"]["metrics"][1]["pods"]["metric"]["name"]
    assert adapter in known


@pytest.mark.parametrize("name", ["production", "everything watched", "named otherwise", "gpu"])
def test_the_alerts_know_the_job(name: str) -> None:
    endpoint = next(one for one in release(name).of("ServiceMonitor") if "experts" not in one["metadata"]["name"])["spec"]["endpoints"][0]
    (job,) = [step["replacement"] for step in endpoint["relabelings"] if step["targetLabel"] == "job"]
    alerts = (ROOT / "deploy/prometheus/alerts.yaml").read_text(encoding="utf-8")
    patterns = re.findall(r'up\{job=~"([^"]+)"', alerts)
    assert patterns
    assert all(re.fullmatch(pattern, job) for pattern in patterns)


def test_scaling_asks_for_this_release_alone() -> None:
    query = release("KEDA").one("ScaledObject")["spec"]["triggers"][1]["metadata"]["query"]
    assert 'namespace="llm"' in query
    assert 'job="pointsman"' in query


def ways_out(rendered: Rendered, name: str = "pointsman") -> list[tuple[set[int], list[Object]]]:
    """Ports and peers of what a NetworkPolicy lets out. No peers: anywhere."""
    rules = rendered.one("NetworkPolicy", name)["spec"]["egress"]
    return [({port["port"] for port in rule["ports"]}, rule.get("to", [])) for rule in rules]


def namespace(name: str) -> Object:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def test_a_gateway_reaches_names_experts_redis_the_api_server_and_traces_and_nothing_else() -> None:
    assert ways_out(release("production")) == [
        ({53}, [namespace("kube-system")]),
        ({8000}, [namespace("models")]),
        ({6379}, [namespace("data")]),
        ({443, 6443}, []),  # no selector means the API server
        ({4317, 4318}, [namespace("monitoring")]),
    ]


def test_a_gateway_without_discovery_does_not_reach_the_api_server() -> None:
    found = ways_out(release("tokens of an issuer"))
    assert found == [({53}, [namespace("kube-system")]), ({8000}, []), ({443}, [])]  # the URL of its one backend, and the issuer


def test_experts_and_redis_are_reached_by_gateways_alone() -> None:
    rendered = release("everything watched")
    selector = {**rendered.one("Deployment")["spec"]["selector"]["matchLabels"]}
    for name, others in (("pointsman-experts", [namespace("monitoring")]), ("pointsman-redis", [])):
        (rule,) = rendered.one("NetworkPolicy", name)["spec"]["ingress"]
        assert rule["from"] == [{"podSelector": {"matchLabels": selector}}, *others]
    assert "egress" not in rendered.one("NetworkPolicy", "pointsman-redis")["spec"]


def test_ports_of_experts_elsewhere_are_read_from_the_configuration() -> None:
    models = [
        {"name": "a", "backends": ["http://a:8001/v1", "https://b/v1", "http://c/v1"]},
        {"name": "d", "discovery": {"type": "dns", "name": "d.", "port": 8002}},
    ]
    given = with_changes(
        values("minimal"), {"networkPolicy": {"enabled": True, "expertPorts": [9000]}, "config": {"models": models, "routes": []}}
    )
    assert ways_out(render(given))[1] == ({9000, 8001, 443, 80, 8002}, [])


def test_streams_are_neither_buffered_nor_cut_off_on_their_way() -> None:
    notes = release("ingress of nginx").one("Ingress")["metadata"]["annotations"]
    assert notes["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    assert notes["nginx.ingress.kubernetes.io/proxy-read-timeout"] == "930"
    assert notes["nginx.ingress.kubernetes.io/proxy-body-size"] == "10485760"
    (rule,) = release("production").one("HTTPRoute")["spec"]["rules"]
    assert rule["timeouts"] == {"request": "930s", "backendRequest": "930s"}
    assert "idle_timeout.timeout_seconds=4000" in str(release("ingress of AWS").one("Ingress")["metadata"]["annotations"])
    longer = {
        "config": {"models": [{"name": "my-model", "backends": ["http://a:1/v1"], "timeouts": {"total": 3600}}]},
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "g"}]},
    }
    (rule,) = render(with_changes(values("minimal"), longer)).one("HTTPRoute")["spec"]["rules"]
    assert rule["timeouts"]["request"] == "3930s"


def test_models_that_take_turns_are_started_for_it() -> None:
    fakes, adapters = release("turns by sleep"), release("turns by adapters")
    assert fakes.one("Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    container = adapters.one("Deployment", "pointsman-large")["spec"]["template"]["spec"]["containers"][0]
    loaded = container["args"][container["args"].index("--lora-modules") + 1 :]
    assert [word for word in loaded if "=" in word] == ["large-sql=my-company/llama-3.3-70b-sql", "large-support=/models/adapters/support"]
    assert {"name": "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "value": "True"} in container["env"]
    sleeping = {"replicas": 1, "expertDefaults": {"kind": "vllm"}, "config": {"residency": [{"models": ["small", "large"], "capacity": 1}]}}
    sources = {name: {"source": f"company/{name}", "replicas": 1} for name in ("small", "medium", "large")}
    rendered = render(with_changes(values("fake"), {**sleeping, "experts": sources}))
    for name, turns in (("small", True), ("medium", False), ("large", True)):
        container = rendered.one("Deployment", f"pointsman-{name}")["spec"]["template"]["spec"]["containers"][0]
        assert ("--enable-sleep-mode" in container["args"]) is turns
        assert ({"name": "VLLM_SERVER_DEV_MODE", "value": "1"} in container["env"]) is turns
