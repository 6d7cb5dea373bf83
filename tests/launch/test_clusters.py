"""The start files: their syntax, and what they do, with pretended tools."""

import os
from pathlib import Path
import re
import shutil
import subprocess

import pytest
import yaml

SCRIPTS = ["launch/slurm.sbatch", "launch/tpu_pod.sh", ".ci/run"]
MANIFESTS = ["launch/kubernetes.yaml", "launch/kubernetes_gpu.yaml"]


def install(folder: Path, **tools: str) -> None:
  """Writes programs of these names, with these bodies, into a folder."""
  folder.mkdir(exist_ok=True)
  for name, body in tools.items():
    (folder / name).write_text(f"#!/bin/bash\n{body}\n")
    (folder / name).chmod(0o755)


# ------------------------------------------------------------------- syntax


@pytest.mark.parametrize("script", SCRIPTS)
def test_bash_reads_it(root, script):
  subprocess.run(["bash", "-n", root / script], check=True)


@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_finds_nothing(root, script):
  if not shutil.which("shellcheck"):
    pytest.skip("shellcheck is not installed")
  done = subprocess.run(
    ["shellcheck", root / script], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", [*SCRIPTS[:2], *MANIFESTS])
def test_its_head_says_what_to_fill_in(root, script):
  head = (root / script).read_text().split("\n\n")[0]
  assert "# To fill in" in head
  assert "launch/train.py --distributed=on" in (
    (root / script).read_text().replace("\n                    - ", " ")
  )


# -------------------------------------------------------------------- SLURM


def slurm(root, tmp_path, *, code=0, state="RUNNING", tasks="4", gpus="4"):
  """Runs the job script; returns the exit code, its output, the calls."""
  install(
    tmp_path / "bin",
    srun='echo "srun $*" >> calls; while [[ "$1" == --* ]]; do shift; done\n'
    '"$@"',
    python=f'echo "python $*" >> calls; exec bash -c "{code}"',
    squeue=f"echo {state}",
    scontrol='echo "scontrol $*" >> calls',
  )
  env = {
    "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
    "SLURM_JOB_ID": "7",
    "SLURM_NTASKS_PER_NODE": tasks,
    "SLURM_GPUS_ON_NODE": gpus,
    "SLURM_CPUS_ON_NODE": "32",
  }
  command = ["bash", root / "launch/slurm.sbatch", "--config=c.py", "--a=b c"]
  done = subprocess.run(
    command, cwd=tmp_path, env=env, capture_output=True, text=True
  )
  calls = tmp_path / "calls"
  return (
    done.returncode,
    done.stdout + done.stderr,
    calls.read_text() if calls.exists() else "",
  )


def test_slurm_ends_in_the_training_program(root, tmp_path):
  code, _, calls = slurm(root, tmp_path, code="exit 0")
  assert code == 0
  assert (
    "python launch/train.py --distributed=on --config=c.py --a=b c" in calls
  )
  assert "--ntasks-per-node=4" in calls and "--cpus-per-task=8" in calls
  assert "scontrol" not in calls


@pytest.mark.parametrize(
  ("end", "state", "requeued"),
  [
    ("exit 143", "RUNNING", True),
    ("kill -TERM $$", "RUNNING", True),
    ("exit 143", "COMPLETING", False),
    ("exit 1", "RUNNING", False),
    ("exit 0", "RUNNING", False),
  ],
)
def test_slurm_requeues_what_was_stopped(root, tmp_path, end, state, requeued):
  _, _, calls = slurm(root, tmp_path, code=end, state=state)
  assert ("scontrol requeue 7" in calls) == requeued


@pytest.mark.parametrize(
  ("tasks", "ids"), [("4", "none"), ("1", "0,1,2,3"), ("2", None)]
)
def test_slurm_device_visibility(root, tmp_path, tasks, ids):
  show = r"echo ids \${JAX_LOCAL_DEVICE_IDS:-none}"
  code, output, _ = slurm(root, tmp_path, code=show, tasks=tasks)
  if ids is None:
    assert code == 1
    assert "error: --ntasks-per-node=2 with 4 GPUs" in output
  else:
    assert f"ids {ids}\n" in output


def test_slurm_signals_the_tasks_and_leaves_time_to_save(root):
  text = (root / "launch/slurm.sbatch").read_text()
  options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(\S*)$", text, re.M))
  assert re.fullmatch(r"TERM@\d+", options["signal"])
  assert "requeue" in options and options["open-mode"] == "append"


# ------------------------------------------------------------------ TPU pod

# Keeps the slice's state in a file and runs what the workers would run.
GCLOUD = """
echo "gcloud $*" >> "$FOLDER/calls"
case "$*" in
  *queued-resources\\ describe*) cat "$FOLDER/state" || exit 1 ;;
  *queued-resources\\ create*) echo ACTIVE > "$FOLDER/state" ;;
  *queued-resources\\ delete*) rm "$FOLDER/state" ;;
  *tpu-vm\\ scp*) ;;
  *train.py\\ --distributed*)
    command="${*: -1}"
    cd "$FOLDER/worker" && bash -c "${command#--command=}" ;;
esac
"""


def tpu_pod(root, tmp_path, codes, *, state="", restarts="5"):
  """Runs the script; `codes` are the exit codes of successive runs."""
  install(
    tmp_path / "bin",
    gcloud=GCLOUD,
    git='touch "${3#--output=}"',
    python='echo "python $*" >> "$FOLDER/calls"\n'
    'code=$(head -n1 "$FOLDER/codes"); sed -i 1d "$FOLDER/codes"\n'
    'if [[ "$code" == gone ]]; then\n'
    '  echo SUSPENDED > "$FOLDER/state"; kill -KILL $PPID; fi\n'
    'exit "$code"',
  )
  activate = tmp_path / "worker/mmae_jax/.venv/bin/activate"
  activate.parent.mkdir(parents=True)
  activate.write_text("")
  (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
  if state:
    (tmp_path / "state").write_text(f"{state}\n")
  env = {
    "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
    "FOLDER": str(tmp_path),
    "TPU_NAME": "name",
    "ZONE": "zone",
    "ACCELERATOR_TYPE": "v5litepod-64",
    "RUNTIME_VERSION": "v2-alpha-tpuv5-lite",
    "POLL_SECONDS": "0",
    "MAX_RESTARTS": restarts,
  }
  done = subprocess.run(
    ["bash", root / "launch/tpu_pod.sh", "--config=c.py", "--a=b c"],
    env=env,
    capture_output=True,
    text=True,
    timeout=60,
  )
  return (
    done.returncode,
    done.stdout + done.stderr,
    (tmp_path / "calls").read_text(),
  )


def test_tpu_pod_ends_in_the_training_program(root, tmp_path):
  code, output, calls = tpu_pod(root, tmp_path, [0])
  assert code == 0, output
  assert "--node-id=name --spot --accelerator-type=v5litepod-64" in calls
  assert "--worker=all" in calls
  assert (
    "python launch/train.py --distributed=on --config=c.py --a=b c" in calls
  )


def test_tpu_pod_starts_again_what_was_stopped(root, tmp_path):
  code, output, calls = tpu_pod(
    root, tmp_path, [143, "gone", 0], state="ACTIVE"
  )
  assert code == 0, output
  assert calls.count("python launch/train.py --distributed=on --config") == 6
  assert calls.count("queued-resources delete") == 1
  assert calls.count("queued-resources create") == 1


@pytest.mark.parametrize("ended", [1, 2])
def test_tpu_pod_does_not_repeat_an_error(root, tmp_path, ended):
  code, output, _ = tpu_pod(root, tmp_path, [ended], state="ACTIVE")
  assert code == 1
  assert "error: the run failed" in output


def test_tpu_pod_gives_up_in_the_end(root, tmp_path):
  code, output, _ = tpu_pod(root, tmp_path, [143] * 9, restarts="2")
  assert code == 1
  assert "more than MAX_RESTARTS=2 times" in output


# --------------------------------------------------------------- Kubernetes

# The part of the JobSet and Job schemas that the manifests use.
NUMBER, TEXT = (int,), (str,)
CONTAINER = {
  "name!": TEXT,
  "image!": TEXT,
  "command!": [TEXT],
  "env": [
    {
      "name!": TEXT,
      "value": TEXT,
      "valueFrom": {"fieldRef!": {"fieldPath!": TEXT}},
    }
  ],
  "ports": [{"containerPort!": NUMBER}],
  "resources!": {"requests": dict, "limits!": dict},
  "volumeMounts": [{"name!": TEXT, "mountPath!": TEXT}],
}
POD = {
  "restartPolicy!": ("Never",),
  "terminationGracePeriodSeconds!": NUMBER,
  "nodeSelector": dict,
  "containers!": [CONTAINER],
  "volumes": [
    {
      "name!": TEXT,
      "persistentVolumeClaim": {"claimName!": TEXT},
      "emptyDir": {"medium!": ("Memory",)},
    }
  ],
}
JOB = {
  "completionMode!": ("Indexed",),
  "parallelism!": NUMBER,
  "completions!": NUMBER,
  "backoffLimit!": (0,),
  "podFailurePolicy!": {
    "rules!": [
      {
        "action!": ("FailJob", "Ignore", "Count"),
        "onExitCodes!": {
          "containerName!": TEXT,
          "operator!": ("In", "NotIn"),
          "values!": [NUMBER],
        },
      }
    ]
  },
  "template!": {"spec!": POD},
}
JOBSET = {
  "apiVersion!": ("jobset.x-k8s.io/v1alpha2",),
  "kind!": ("JobSet",),
  "metadata!": {"name!": TEXT, "annotations": dict},
  "spec!": {
    "network!": {
      "enableDNSHostnames!": (True,),
      "publishNotReadyAddresses!": (True,),
    },
    "failurePolicy!": {
      "maxRestarts!": NUMBER,
      "rules!": [
        {
          "name!": TEXT,
          "action!": (
            "FailJobSet",
            "RestartJobSet",
            "RestartJobSetAndIgnoreMaxRestarts",
          ),
          "onJobFailureReasons!": [("PodFailurePolicy",)],
        }
      ],
    },
    "replicatedJobs!": [
      {"name!": TEXT, "replicas!": NUMBER, "template!": {"spec!": JOB}}
    ],
  },
}


def check(value, schema, where="manifest"):
  """Compares a document with a schema.

  A dict lists the keys allowed, "!" marks those required; a list gives the
  schema of the entries; a tuple the types or the values allowed.
  """
  if isinstance(schema, dict):
    assert isinstance(value, dict), where
    required = {key[:-1] for key in schema if key.endswith("!")}
    allowed = {key.removesuffix("!"): part for key, part in schema.items()}
    assert required <= set(value) <= set(allowed), f"{where}: {set(value)}"
    for key, part in value.items():
      check(part, allowed[key], f"{where}.{key}")
  elif isinstance(schema, list):
    assert isinstance(value, list) and value, where
    for entry in value:
      check(entry, schema[0], f"{where}[]")
  elif isinstance(schema, type):
    assert isinstance(value, schema) and value, where
  else:
    types = tuple(item for item in schema if isinstance(item, type))
    assert isinstance(value, types) or value in schema, f"{where}: {value}"


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_kubernetes_schema(root, manifest):
  (document,) = yaml.safe_load_all((root / manifest).read_text())
  check(document, JOBSET)


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_kubernetes_says_the_same_everywhere(root, manifest):
  document = yaml.safe_load((root / manifest).read_text())
  (replicated,) = document["spec"]["replicatedJobs"]
  job = replicated["template"]["spec"]
  (container,) = job["template"]["spec"]["containers"]
  command = container["command"]
  assert command[:3] == ["python", "launch/train.py", "--distributed=on"]
  assert any(part.startswith("--config=configs/") for part in command)
  assert any(part.startswith("--workdir=") for part in command)
  assert job["parallelism"] == job["completions"]
  # An error ends the JobSet; a stopped run (143) must not be among them.
  (rule,) = job["podFailurePolicy"]["rules"]
  assert rule["action"] == "FailJob"
  assert rule["onExitCodes"]["containerName"] == container["name"]
  assert 1 in rule["onExitCodes"]["values"]
  assert 143 not in rule["onExitCodes"]["values"]
  assert document["spec"]["failurePolicy"]["maxRestarts"] > 0
  # Kubernetes wants whole numbers of devices, equal where both are given.
  resources = container["resources"]
  assert resources.get("requests", resources["limits"]) == resources["limits"]
  env = {entry["name"]: entry for entry in container.get("env", [])}
  if env:
    name = document["metadata"]["name"]
    address = f"{name}-{replicated['name']}-0-0.{name}:8482"
    assert env["JAX_COORDINATOR_ADDRESS"]["value"] == address
    assert env["JAX_NUM_PROCESSES"]["value"] == str(job["completions"])
  else:
    selector = job["template"]["spec"]["nodeSelector"]
    sides = selector["cloud.google.com/gke-tpu-topology"].split("x")
    chips = 1
    for side in sides:
      chips *= int(side)
    assert chips == job["completions"] * resources["limits"]["google.com/tpu"]
