"""compose.yaml and deploy/kubernetes.yaml agree with the service, the image and themselves.

Nothing here runs them: there is neither a Docker engine nor a cluster.
"""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from service.routes import PUBLIC, ROUTES
from service.server import STOP_SECONDS
from service.settings import Settings, read_settings
from storage.client import OUTCOME_SECONDS, ROUND_TRIP_SECONDS, STARTUP_SECONDS
from tests.processes import ROOT
from tests.test_dockerfile import UID

Yaml = dict[str, Any]

PLACEHOLDER = re.compile(r"\$\{(\w+)(:[?-])([^}]*)\}")
VARIABLE = re.compile(r"\b(?:POLLS_[A-Z_]+|MONGODB_[A-Z_]+)\b")
SECRETS = {"POLLS_SECRET", "POLLS_ADMIN_TOKEN"}


def load(name: str) -> list[Yaml]:
    return list(yaml.safe_load_all((ROOT / name).read_text()))


@pytest.fixture
def compose() -> Yaml:
    [document] = load("compose.yaml")
    return document


@pytest.fixture
def cluster() -> dict[str, Yaml]:
    documents = load("deploy/kubernetes.yaml")
    kinds = {document["kind"]: document for document in documents}
    assert len(kinds) == len(documents)
    return kinds


@pytest.fixture
def pod(cluster: dict[str, Yaml]) -> Yaml:
    pod: Yaml = cluster["Deployment"]["spec"]["template"]["spec"]
    return pod


@pytest.fixture
def container(pod: Yaml) -> Yaml:
    [container] = pod["containers"]
    return dict(container)


def known_variables() -> set[str]:
    return set(VARIABLE.findall((ROOT / "service" / "settings.py").read_text()))


def seconds(text: str) -> float:
    assert text.endswith("s")
    return float(text[:-1])


def seconds_of_a_stop() -> float:
    """The longest that a service takes from the end of its listening to its own."""
    return STOP_SECONDS + OUTCOME_SECONDS


@pytest.mark.parametrize(
    "name", ["compose.yaml", "deploy/kubernetes.yaml", "docs/deployment.md", "Dockerfile"]
)
def test_every_variable_that_is_named_is_a_setting(name: str) -> None:
    named = set(VARIABLE.findall((ROOT / name).read_text()))
    assert named
    assert named <= known_variables()


# compose.yaml ---------------------------------------------------------------------------------


def interpolated(environment: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    def value(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        if name not in given:
            assert kind == ":-", f"{name} is missing: {rest}"
        return given.get(name, rest)

    return {name: PLACEHOLDER.sub(value, text) for name, text in environment.items()}


def compose_settings(compose: Yaml) -> Settings:
    environment = compose["services"]["service"]["environment"]
    return read_settings(interpolated(environment, {"POLLS_SECRET": "x"}))


def test_compose_takes_secrets_from_the_environment_and_has_none_of_its_own(compose: Yaml) -> None:
    environment = compose["services"]["service"]["environment"]
    for name in SECRETS:
        found = PLACEHOLDER.fullmatch(environment[name])
        assert found, name
        assert found[1] == name
        assert found[2] == ":?" or found[3] == ""
    assert environment["POLLS_SECRET"].startswith("${POLLS_SECRET:?")
    assert urlsplit(environment["MONGODB_URI"]).password is None
    assert compose_settings(compose).secret == "x"
    assert compose_settings(compose).admin_token is None


def test_compose_begins_the_replica_set_that_the_service_looks_for(compose: Yaml) -> None:
    mongo = compose["services"]["mongo"]
    address = urlsplit(compose_settings(compose).mongodb_uri or "")
    name = mongo["command"][mongo["command"].index("--replSet") + 1]
    assert address.query == f"replicaSet={name}"
    assert address.hostname == mongo["hostname"] == "mongo"
    *_, script = mongo["healthcheck"]["test"]
    assert f'rs.initiate({{_id: "{name}", members: [{{_id: 0, host: "{address.netloc}"}}]}})' in (
        script
    )


def test_in_compose_the_service_waits_for_mongodb_and_only_the_service_reaches_it(
    compose: Yaml,
) -> None:
    service, mongo = (compose["services"][name] for name in ("service", "mongo"))
    assert service["depends_on"] == {"mongo": {"condition": "service_healthy"}}
    assert "ports" not in mongo
    assert mongo["networks"] == ["store"]
    assert compose["networks"]["store"] == {"internal": True}
    assert service["networks"] == ["default", "store"]
    # Else the port would be open to the whole network that the machine is on.
    assert service["ports"] == [f"127.0.0.1:{Settings().port}:{Settings().port}"]


def test_in_compose_what_is_stored_survives_its_container(compose: Yaml) -> None:
    mounts = dict(mount.split(":") for mount in compose["services"]["mongo"]["volumes"])
    assert {"/data/db", "/data/configdb"} == set(mounts.values())
    assert mounts.keys() == compose["volumes"].keys()


def test_in_compose_the_service_is_bound_and_has_time_to_stop(compose: Yaml) -> None:
    service = compose["services"]["service"]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert seconds(service["stop_grace_period"]) >= seconds_of_a_stop()


# deploy/kubernetes.yaml -----------------------------------------------------------------------


def test_the_variables_of_the_pod_make_settings(cluster: dict[str, Yaml], container: Yaml) -> None:
    assert container["envFrom"] == [{"configMapRef": {"name": "polls"}}]
    plain = cluster["ConfigMap"]["data"]
    assert not SECRETS & plain.keys()
    secret = {}
    for variable in container["env"]:
        reference = variable["valueFrom"]["secretKeyRef"]
        assert (reference["name"], reference["key"]) == ("polls", variable["name"])
        if not reference.get("optional"):
            secret[variable["name"]] = "x"
    assert secret.keys() == {"MONGODB_URI", "POLLS_SECRET"}
    assert read_settings({**plain, **secret}).port == Settings().port
    assert "Secret" not in cluster


def test_kubernetes_adds_no_variables_of_its_own(pod: Yaml) -> None:
    """A Service that is called polls would set POLLS_PORT to tcp://10.0.0.1:80 in every pod."""
    assert pod["enableServiceLinks"] is False


def test_the_ports_are_those_of_the_service(cluster: dict[str, Yaml], container: Yaml) -> None:
    assert container["ports"] == [{"name": "http", "containerPort": Settings().port}]
    assert cluster["ConfigMap"]["data"]["POLLS_PORT"] == str(Settings().port)
    [port] = cluster["Service"]["spec"]["ports"]
    assert port["targetPort"] == "http"


def test_the_labels_find_the_pods(cluster: dict[str, Yaml], pod: Yaml) -> None:
    labels = cluster["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert cluster["Service"]["spec"]["selector"] == labels
    for found in (
        cluster["Deployment"]["spec"]["selector"],
        cluster["PodDisruptionBudget"]["spec"]["selector"],
        pod["topologySpreadConstraints"][0]["labelSelector"],
    ):
        assert found == {"matchLabels": labels}


def test_probes_ask_routes_that_need_no_token(container: Yaml) -> None:
    paths = {}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["port"] == "http"
        assert asked["path"] in PUBLIC
        assert "GET" in ROUTES[asked["path"]]
        paths[probe] = asked["path"]
    # A database that is away must take replicas out of service, and restart none.
    assert paths["readinessProbe"] == "/readyz"
    assert paths["livenessProbe"] == paths["startupProbe"] == "/healthz"


def test_probes_are_more_patient_than_the_service(container: Yaml) -> None:
    assert container["readinessProbe"]["timeoutSeconds"] > ROUND_TRIP_SECONDS
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > STARTUP_SECONDS


def test_a_pod_has_time_to_drain_before_it_is_killed(
    cluster: dict[str, Yaml], pod: Yaml, container: Yaml
) -> None:
    drain = read_settings(cluster["ConfigMap"]["data"]).drain_seconds
    assert pod["terminationGracePeriodSeconds"] > drain + seconds_of_a_stop()
    # Whoever looks at /readyz has seen the end coming before the listener closes.
    ready = container["readinessProbe"]
    assert drain >= ready["periodSeconds"] * ready["failureThreshold"]
    assert "lifecycle" not in container


def test_no_drain_or_upgrade_takes_the_service_away(cluster: dict[str, Yaml]) -> None:
    deployment = cluster["Deployment"]["spec"]
    assert deployment["replicas"] >= 3
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert cluster["PodDisruptionBudget"]["spec"]["maxUnavailable"] < deployment["replicas"]


def test_the_pod_may_do_nothing_but_serve(pod: Yaml, container: Yaml) -> None:
    assert pod["automountServiceAccountToken"] is False
    whose = pod["securityContext"]
    assert (whose["runAsNonRoot"], whose["runAsUser"], whose["runAsGroup"]) == (True, UID, UID)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"].keys() == {"requests", "limits"}


def test_the_image_is_of_this_version(container: Yaml) -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert Path(container["image"]).name == f"polls-service:{version[1]}"
