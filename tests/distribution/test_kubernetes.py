"""Kubernetes: the manifest is valid, its parts fit together, and its command makes the workers of a run."""

import os
import subprocess

import pytest
import tensorflow as tf

from simclr_tf.config import Config
from simclr_tf.distribution.strategy import _check_tf_config
from tests.conftest import ROOT

yaml = pytest.importorskip("yaml")
kubernetes_validate = pytest.importorskip("kubernetes_validate")
SERVICE, CLAIM, JOB = yaml.safe_load_all((ROOT / "docs" / "kubernetes.yaml").read_text())
POD = JOB["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
VERSIONS = ("1.31", "1.37")  # podFailurePolicy became stable with the first


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("resource", [SERVICE, CLAIM, JOB], ids=lambda resource: resource["kind"])
def test_the_schema_accepts_the_manifest(resource, version):
    kubernetes_validate.validate(resource, version, strict=True)


def test_the_schema_refuses_what_it_does_not_know():
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(JOB | {"spec": JOB["spec"] | {"completion_mode": "Indexed"}}, "1.31", strict=True)


def test_the_parts_fit_together():
    name = SERVICE["metadata"]["name"]
    assert SERVICE["spec"]["clusterIP"] == "None" and SERVICE["spec"]["selector"] == {"job-name": name}
    assert name == JOB["metadata"]["name"] == POD["subdomain"]
    assert JOB["spec"]["completions"] == JOB["spec"]["parallelism"] == int(CONTAINER["env"][0]["value"])
    assert JOB["spec"]["completionMode"] == "Indexed" and POD["restartPolicy"] == "Never"
    (volume,), (mount,) = POD["volumes"], CONTAINER["volumeMounts"]
    assert volume["persistentVolumeClaim"]["claimName"] == CLAIM["metadata"]["name"]
    assert volume["name"] == mount["name"] and f"--run_dir={mount['mountPath']}/" in CONTAINER["args"][0]


@pytest.mark.parametrize("index", [0, 1])
def test_the_command_makes_the_tf_config_of_each_pod(tmp_path, monkeypatch, index):
    command = tmp_path / "simclr-train"
    command.write_text('#!/bin/sh\necho "$TF_CONFIG"\necho "$@"\n')
    command.chmod(0o755)
    variables = {entry["name"]: entry["value"] for entry in CONTAINER["env"]}
    variables |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "JOB_COMPLETION_INDEX": str(index)}
    done = subprocess.run([*CONTAINER["command"], *CONTAINER["args"]], env=variables, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    config, flags = done.stdout.splitlines()
    _check_tf_config(config)
    monkeypatch.setenv("TF_CONFIG", config)
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    assert (resolver.task_type, resolver.task_id) == ("worker", index)
    port = SERVICE["spec"]["ports"][0]["port"]
    assert resolver.cluster_spec().as_dict() == {"worker": [f"simclr-{pod}.simclr:{port}" for pod in (0, 1)]}
    assert "--strategy=multiworker" in flags and "--resume" in flags


def test_the_flags_are_those_of_train():
    words = [word.removeprefix("--").partition("=")[0] for word in CONTAINER["args"][0].split() if word[:2] == "--"]
    known = {name for section in Config.sections().values() for name in section.__dataclass_fields__}
    assert set(words) - {"flagfile"} <= known
