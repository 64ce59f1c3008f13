"""compose.yaml and deploy/kubernetes.yaml agree with the service, the image and themselves.

Nothing here runs them: there is neither a Docker engine nor a cluster.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from service.routes import ROUTES
from service.server.runner import STOP_SECONDS
from service.settings import EMBEDDED_URI, SECRET_FILES, Settings, read_settings
from service.web.authentication import PUBLIC
from storage.client import OUTCOME_SECONDS, ROUND_TRIP_SECONDS, STARTUP_SECONDS
from tests.support.processes import ROOT

Yaml = dict[str, Any]

VARIABLE = re.compile(r"\b(?:POLLS_[A-Z_]+|MONGODB_[A-Z_]+)\b")
SECRET = "0123456789abcdef"
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def the_user() -> int:
    """The number that the image runs as; ``make test-image`` runs it so."""
    [line] = re.findall(r"^USER (\d+:\d+)$", DOCKERFILE, re.MULTILINE)
    user, group = line.split(":")
    assert user == group
    return int(user)


UID = the_user()


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
    "name",
    [
        *("compose.yaml", "deploy/kubernetes.yaml", "Dockerfile", "README.md"),
        *("docs/deployment.md", "docs/operations.md", "docs/tokens.md", "docs/api.md"),
    ],
)
def test_every_variable_that_is_named_is_a_setting(name: str) -> None:
    named = set(VARIABLE.findall((ROOT / name).read_text()))
    assert named
    assert named <= known_variables()


def test_every_setting_is_in_the_tables_of_the_documentation() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    listed = set(VARIABLE.findall(" ".join(row.split("|")[1] for row in rows)))
    assert listed == known_variables() - {EMBEDDED_URI}


def with_secrets(variables: Mapping[str, str], files: Mapping[str, str]) -> Settings:
    """The settings of a container in which these files stand for the mounted ones."""
    return read_settings({name: files.get(text, text) for name, text in variables.items()})


def test_both_stages_of_the_image_begin_with_one_pinned_slim_python() -> None:
    first, second = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert first == second
    found = re.fullmatch(r"python:3\.(\d+)\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", first)
    assert found, first
    assert int(found[1]) >= 11


def test_whatever_the_image_installs_from_an_index_is_pinned() -> None:
    installed = re.findall(r"^RUN (pip .*install .*)$", DOCKERFILE, re.MULTILINE)
    assert len(installed) == 3
    for command in installed:
        assert ("--constraint constraints.txt" in command) != ("--no-index" in command), command
    # An environment of its own for the build would know no constraints.
    assert re.search(r"^RUN pip wheel .*--no-build-isolation", DOCKERFILE, re.MULTILINE)


# compose.yaml ---------------------------------------------------------------------------------


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    return path


def compose_settings(compose: Yaml, secret_file: Path) -> Settings:
    """What the service is told, where the one secret that it asks for is mounted."""
    service = compose["services"]["service"]
    [name] = service["secrets"]
    return with_secrets(service["environment"], {f"/run/secrets/{name}": str(secret_file)})


def test_compose_takes_its_secret_from_a_file_that_is_not_in_the_repository(
    compose: Yaml, secret_file: Path
) -> None:
    settings = compose_settings(compose, secret_file)
    assert settings.secret == SECRET
    assert settings.admin_token is None
    assert urlsplit(settings.mongodb_uri or "").password is None
    assert (
        not SECRET_FILES.keys() - {"MONGODB_URI"}
        & compose["services"]["service"]["environment"].keys()
    )
    [name] = compose["services"]["service"]["secrets"]
    assert compose["secrets"] == {name: {"file": f"./secrets/{name}"}}
    assert "secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    # The directory is closed to others, so the file may be readable for the user of the image.
    introduction = (ROOT / "compose.yaml").read_text().partition("\n\n")[0]
    for command in (
        "mkdir -m 700 secrets",
        f"openssl rand -hex 32 > secrets/{name}",
        f"chmod 444 secrets/{name}",
    ):
        assert command in introduction


def test_compose_begins_the_replica_set_that_the_service_looks_for(
    compose: Yaml, secret_file: Path
) -> None:
    mongo = compose["services"]["mongo"]
    address = urlsplit(compose_settings(compose, secret_file).mongodb_uri or "")
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


def mebibytes(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(m|g|Mi|Gi)", text).groups()  # type: ignore[union-attr]
    return int(number) * (1 if unit[0] in "mM" else 1024)


@pytest.mark.parametrize("name", ["mongo", "service"])
def test_in_compose_no_container_may_do_or_take_more_than_it_needs(
    compose: Yaml, name: str
) -> None:
    container = compose["services"][name]
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in container
    assert "cap_add" not in container
    assert mebibytes(container["mem_limit"]) >= 512
    # A worker has fewer than twenty threads, mongod one for each connection.
    assert 256 <= container["pids_limit"] <= 1024
    kept = container["logging"]
    assert kept["driver"] == "json-file"
    assert kept["options"].keys() == {"max-size", "max-file"}


def test_in_compose_no_container_runs_as_root(compose: Yaml) -> None:
    assert UID > 0
    assert "user" not in compose["services"]["service"]  # that of the image
    # Else MongoDB's image begins as root, which needs what cap_drop takes away.
    assert compose["services"]["mongo"]["user"] == "999:999"


def test_images_of_others_are_pinned_and_the_files_say_how_to_pin_them_by_digest(
    compose: Yaml,
) -> None:
    image = compose["services"]["mongo"]["image"]
    assert re.fullmatch(r"mongo:\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?", image)
    for name, tag in (("compose.yaml", image), ("deploy/kubernetes.yaml", "polls-service:")):
        text = (ROOT / name).read_text()
        assert re.search(rf"# .*{re.escape(tag)}[\d.]*@sha256:…", text), name


def test_in_compose_the_service_is_bound_and_has_time_to_stop(compose: Yaml) -> None:
    service = compose["services"]["service"]
    assert service["read_only"] is True
    assert seconds(service["stop_grace_period"]) >= seconds_of_a_stop()


# deploy/kubernetes.yaml -----------------------------------------------------------------------


def test_the_variables_and_the_secrets_of_the_pod_make_settings(
    cluster: dict[str, Yaml], pod: Yaml, container: Yaml, tmp_path: Path
) -> None:
    assert container["envFrom"] == [{"configMapRef": {"name": "polls"}}]
    assert "env" not in container
    [mount] = container["volumeMounts"]
    [volume] = pod["volumes"]
    assert mount["name"] == volume["name"]
    assert mount["readOnly"] is True
    files = {}
    for item in volume["secret"]["items"]:
        (tmp_path / item["key"]).write_text(f"mongodb://{SECRET}\n")
        files[f"{mount['mountPath']}/{item['path']}"] = str(tmp_path / item["key"])
    variables = cluster["ConfigMap"]["data"]
    assert not SECRET_FILES.keys() & variables.keys()
    named = {name: text for name, text in variables.items() if name in SECRET_FILES.values()}
    assert set(named.values()) == files.keys()
    settings = with_secrets(variables, files)
    assert settings.port == Settings().port
    assert settings.secret == settings.mongodb_uri == f"mongodb://{SECRET}"
    assert "Secret" not in cluster


def test_the_secrets_of_the_pod_are_for_its_user_alone(pod: Yaml) -> None:
    [volume] = pod["volumes"]
    assert volume["secret"]["secretName"] == "polls"
    assert volume["secret"]["defaultMode"] == 0o440
    assert pod["securityContext"]["fsGroup"] == UID
    introduction = (ROOT / "deploy" / "kubernetes.yaml").read_text().partition("\n\n")[0]
    for item in volume["secret"]["items"]:
        assert f"--from-literal={item['key']}=" in introduction


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
        cluster["NetworkPolicy"]["spec"]["podSelector"],
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
    drain = int(cluster["ConfigMap"]["data"]["POLLS_DRAIN_SECONDS"])
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
    assert whose["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_pod_takes_no_more_than_its_share(container: Yaml) -> None:
    requests, limits = (container["resources"][name] for name in ("requests", "limits"))
    assert requests.keys() == {"cpu", "memory", "ephemeral-storage"}
    # A limit of the CPU would throttle a vote in the midst of a rush.
    assert limits.keys() == {"memory", "ephemeral-storage"}
    assert mebibytes(requests["memory"]) < mebibytes(limits["memory"])
    # The kubelet keeps 50 MiB of a log, and evicts a pod that is over its limit.
    assert 50 < mebibytes(requests["ephemeral-storage"]) < mebibytes(limits["ephemeral-storage"])


def test_the_network_lets_callers_in_and_the_service_out_to_its_database_and_to_dns(
    cluster: dict[str, Yaml],
) -> None:
    policy = cluster["NetworkPolicy"]
    assert policy["apiVersion"] == "networking.k8s.io/v1"
    # What is named here and has no rule is denied.
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    [callers] = policy["spec"]["ingress"]
    assert callers["ports"] == [{"protocol": "TCP", "port": "http"}]
    assert {"podSelector": {}} in callers["from"]
    assert {} not in callers["from"]
    ports = {
        (port["protocol"], port["port"]): rule["to"]
        for rule in policy["spec"]["egress"]
        for port in rule["ports"]
    }
    assert ports.keys() == {("UDP", 53), ("TCP", 53), ("TCP", 27017)}
    assert all(ports.values())  # an empty list is everywhere
    assert "0.0.0.0/0" not in json.dumps(policy)


def test_the_image_is_of_this_version(container: Yaml) -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert Path(container["image"]).name == f"polls-service:{version[1]}"
