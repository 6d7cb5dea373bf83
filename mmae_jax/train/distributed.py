"""When to join the other processes of a run."""

import os

import jax

from mmae_jax.types import UsageError


def in_cluster() -> bool:
  """Whether the environment is a cluster's that jax can read.

  Slurm with more than one task, a TPU pod slice of several hosts, or a
  coordinator named by JAX_COORDINATOR_ADDRESS.
  """
  env = os.environ
  if env.get("JAX_COORDINATOR_ADDRESS"):
    return True
  if int(env.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in env:
    return True
  hosts = env.get("TPU_WORKER_HOSTNAMES", "")
  return len([h for h in hosts.split(",") if h]) > 1


def initialise(mode: str) -> None:
  """Joins the other processes; must precede any other use of jax.

  Args:
    mode: "on", "off", or "auto" (on in a known cluster environment).
      JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID are read
      where they are set; otherwise jax detects the cluster.
  Raises:
    UsageError: "on", and there is no cluster to be found.
  """
  if mode == "off" or (mode == "auto" and not in_cluster()):
    return
  env = os.environ
  arguments = {}
  if env.get("JAX_COORDINATOR_ADDRESS"):
    arguments["coordinator_address"] = env["JAX_COORDINATOR_ADDRESS"]
    for name, variable in (
      ("num_processes", "JAX_NUM_PROCESSES"),
      ("process_id", "JAX_PROCESS_ID"),
    ):
      if env.get(variable):
        arguments[name] = int(env[variable])
  try:
    jax.distributed.initialize(**arguments)
  except ValueError as e:
    raise UsageError(
      f"--distributed={mode}: no cluster was found ({e}); set"
      " JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or use"
      " --distributed=off"
    ) from e
