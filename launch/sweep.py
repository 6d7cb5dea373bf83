"""Runs configs x seeds and writes one table with mean and spread.

  python launch/sweep.py \\
    --configs=configs/mae.py,configs/umae.py,configs/mmae.py --seeds=0,1,2

A config may carry values of its own behind plus signs, for an ablation:

  --configs=configs/matrix_ssl.py+config.objective.gamma=0,configs/mec.py

Each run is a `launch/train.py` of its own, in a folder of its own under
`--out`, with its output in `train.log` there. A finished run is skipped and a
stopped one continued, so the same command carries on after an interruption;
SIGTERM and SIGINT are passed on to the runs (exit 143, 130). A run that fails
stands in the table with its state, the others go on, and the exit code is 1.
`--out` then has table.md, .csv and .json; planes.png, the information planes of
the methods over time; and entropy.html, a page with the entropy and
reconstruction of all runs beside their accuracy. Numbers stand in .csv files.
"""

import argparse
from collections.abc import Callable, Sequence
import dataclasses
import fcntl
import hashlib
import itertools
import json
from pathlib import Path
import re
import shlex
import signal
import subprocess
import sys
import time

from mmae_jax import command_line
from mmae_jax.report import bounds, comparison, planes
from mmae_jax.types import UsageError

TRAIN = Path(__file__).with_name("train.py")


@dataclasses.dataclass(frozen=True)
class Run:
  """One cell of the product.

  Attributes:
    method: the config's name and argument, `mmae` or `mmae-vit_s16`.
    config: what `--config` gets.
    seed: what `--config.seed` gets.
    workdir: the run's folder.
    settings: of this config alone, "config.key=value".
  """

  method: str
  config: str
  seed: int
  workdir: Path
  settings: tuple[str, ...] = ()


def plan(configs: Sequence[str], seeds: Sequence[int], out: Path) -> list[Run]:
  """Returns the product, one config after the other.

  Args:
    configs: paths of config files, each may carry ":argument", and then any
      number of "+config.key=value".
    seeds: non-negative integers.
    out: the sweep's folder.
  Raises:
    UsageError: a config does not exist, a value is not of the form
      config.key=value, or two would share a folder.
  """
  methods = {}
  for entry in configs:
    config, *settings = entry.split("+")
    path, _, argument = config.partition(":")
    if not path.endswith(".py") or not Path(path).is_file():
      raise UsageError(f"--configs={entry}: no such config file")
    for setting in settings:
      _check_setting(setting, f"--configs={entry}: {setting}")
    # config.objective.gamma=0.5 becomes gamma=0.5.
    short = [re.sub(r"^.*\.(?=\w+=)", "", setting) for setting in settings]
    method = "-".join(filter(None, [Path(path).stem, argument, *short]))
    method = re.sub(r"[^\w.=-]", "_", method)
    if method in methods:
      raise UsageError(
        f"--configs={entry}: has the name {method} as another has; run it in a"
        " sweep of its own"
      )
    methods[method] = (config, tuple(settings))
  return [
    Run(method, config, seed, out / f"{method}-seed{seed}", settings)
    for (method, (config, settings)), seed in itertools.product(
      methods.items(), seeds
    )
  ]


def _check_setting(setting, said):
  if not re.match(r"config\.[^=]+=", setting):
    raise UsageError(f"{said} is not of the form config.key=value")
  if setting.startswith("config.seed="):
    raise UsageError(f"{said} is refused: seeds are given by --seeds")


class Stopped(Exception):
  """A signal asked the sweep to stop."""


def run_all(
  runs: Sequence[Run], command: Callable[[Run], list[str]], *, jobs: int = 1
) -> dict[Run, str]:
  """Runs what is not finished, at most `jobs` at a time.

  Args:
    runs: the cells.
    command: gives the command line of a run.
    jobs: processes at a time; more than one only if they fit the devices.
  Returns:
    For each run "finished", "stopped (exit 143)", "failed (exit 1)", ....
  Raises:
    Stopped: SIGTERM or SIGINT came; the children have had it and are gone.
  """
  states = {run: "waiting" for run in runs}
  active: dict[subprocess.Popen, Run] = {}
  received: list[int] = []
  forwarded = 0
  previous = {
    number: signal.signal(number, lambda number, _: received.append(number))
    for number in (signal.SIGTERM, signal.SIGINT)
  }
  try:
    queue = list(runs)
    while active or (queue and not received):
      while queue and len(active) < jobs and not received:
        run = queue.pop(0)
        if comparison.is_finished(run.workdir):
          states[run] = "finished"
          print(f"{run.workdir}: finished before", flush=True)
        elif process := _start(run, command(run)):
          active[process] = run
        else:
          states[run] = "still running, started by another sweep"
          print(f"{run.workdir}: {states[run]}", flush=True)
      for number in received[forwarded:]:
        forwarded += 1
        for process in active:
          process.send_signal(number)
      for process in [p for p in active if p.poll() is not None]:
        run = active.pop(process)
        states[run] = _state(run, process.returncode)
        print(f"{run.workdir}: {states[run]}", flush=True)
      time.sleep(0.1)
  finally:
    for number, handler in previous.items():
      signal.signal(number, handler)
  if received:
    raise Stopped(128 + received[0])
  return states


def _start(run: Run, command: list[str]) -> subprocess.Popen | None:
  """Starts one run in a session of its own, under its folder's lock.

  A terminal's Ctrl-C would reach a child twice, once directly, and a second
  signal means "at once"; hence the session. The child holds the lock for as
  long as it lives, also when this process is killed: the next sweep leaves
  the folder alone (None) instead of writing into it.
  """
  run.workdir.mkdir(parents=True, exist_ok=True)
  with (
    open(run.workdir / "sweep.lock", "w") as lock,
    open(run.workdir / "train.log", "a") as log,
  ):
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
      return None
    print(f"{run.workdir}: started, see {log.name}", flush=True)
    return subprocess.Popen(
      command,
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      start_new_session=True,
      pass_fds=(lock.fileno(),),
    )


def _state(run: Run, code: int) -> str:
  code = code if code >= 0 else 128 - code  # a shell's number for a signal
  if code == 0 and comparison.is_finished(run.workdir):
    return "finished"
  if code in (130, 143):
    return f"stopped (exit {code})"
  lines = (run.workdir / "train.log").read_text(errors="replace").splitlines()
  print("\n".join(f"  {line}" for line in lines[-5:]), file=sys.stderr)
  return f"failed (exit {code})"


def _parse(argv: Sequence[str]) -> argparse.Namespace:
  parser = command_line.argument_parser(__doc__)
  parser.add_argument("--configs", required=True, help="files, by commas")
  parser.add_argument("--seeds", default="0,1,2", help="numbers, by commas")
  parser.add_argument("--out", help="the sweep's folder (runs/sweep-...)")
  parser.add_argument(
    "--set",
    action="append",
    default=[],
    metavar="config.key=value",
    help="passed to every run; may be repeated",
  )
  parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
  args = parser.parse_args(argv)
  args.configs = [c for c in args.configs.split(",") if c]
  if not args.configs:
    raise UsageError("--configs: names no config file")
  try:
    args.seeds = [int(seed) for seed in args.seeds.split(",")]
  except ValueError:
    args.seeds = [-1]
  if min(args.seeds) < 0 or len(set(args.seeds)) < len(args.seeds):
    raise UsageError("--seeds: needs different numbers >= 0, like 0,1,2")
  if args.jobs < 1:
    raise UsageError(f"--jobs={args.jobs}: needs at least 1")
  # A comma may be part of a value, unless another key follows it.
  args.set = [
    part.removeprefix("--")
    for setting in args.set
    for part in re.split(r",(?=(?:--)?config\.)", setting)
  ]
  for setting in args.set:
    _check_setting(setting, f"--set {setting}")
  if not args.out:
    identity = json.dumps([args.configs, sorted(args.set)]).encode()
    digest = hashlib.sha256(identity).hexdigest()[:8]
    args.out = f"runs/sweep-{digest}"
  return args


def _check_settings(out: Path, settings: Sequence[str]) -> None:
  """Refuses a folder whose runs had other settings."""
  path = out / "settings.json"
  settings = sorted(settings)
  if path.is_file():
    before = json.loads(path.read_text())
    if before != settings:
      raise UsageError(
        f"--out={out}: its runs had --set {before}, now it is {settings};"
        " choose another folder"
      )
  try:
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings) + "\n")
  except OSError as error:
    raise UsageError(f"--out={out}: {error.strerror}") from error


def main(argv: Sequence[str] | None = None, *, train: Path = TRAIN) -> int:
  """Runs the sweep and returns the exit code.

  Args:
    argv: the flags, without the program's name.
    train: the program that makes one run.
  """
  argv = sys.argv[1:] if argv is None else argv
  try:
    args = _parse(argv)
    out = Path(args.out)
    runs = plan(args.configs, args.seeds, out)
    _check_settings(out, args.set)

    def command(run: Run) -> list[str]:
      return [
        sys.executable,
        str(train),
        f"--config={run.config}",
        f"--config.seed={run.seed}",
        f"--workdir={run.workdir}",
        *[f"--{setting}" for setting in (*args.set, *run.settings)],
      ]

    states = run_all(runs, command, jobs=args.jobs)
  except UsageError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  except Stopped as stopped:
    print("stopped; the same command continues", file=sys.stderr)
    return stopped.args[0]
  called = shlex.join(["python", "launch/sweep.py", *argv])
  rows = [
    comparison.Row(run.method, run.seed, run.workdir, state)
    for run, state in states.items()
  ]
  table = comparison.write_table(out, called, rows)
  print(table, flush=True)
  if drawn := planes.write_planes(out, rows):
    print(f"{drawn}: information planes, numbers in {out / 'planes.csv'}")
  if page := bounds.write_bounds(out, rows, command=called, table=table):
    print(f"{page}: entropy, reconstruction and accuracy over epochs")
  return 0 if set(states.values()) == {"finished"} else 1


if __name__ == "__main__":
  sys.exit(main())
