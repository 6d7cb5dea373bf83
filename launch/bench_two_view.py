"""The suite `step` of launch/bench.py for methods that compare two views.

The network is timed once, forward and backward on both views as SimSiam does
it, and each method's loss alone on outputs of its recipe's width. All on one
device.
"""

import functools
import importlib
import inspect
import statistics
import time

import bench_step
import bench_torch
import bench_two_view_tables as tables
import numpy as np

from mmae_jax.train import memory
from mmae_jax.types import RunInfo, TrainState, UsageError

OURS, THEIRS = bench_step.OURS, bench_step.THEIRS
show = tables.show

# What stands behind the colon of a config, by --size.
_SIZES = {"digits": None, "r50": "resnet50", "s16": "vit_s16"}
# Arrays of the loss that no gradient goes to, by method.
_GIVEN = {
  "barlow_twins": (),
  "byol": ("z1", "z2"),
  "matrix_ssl": ("p1", "p2"),
  "mec": ("p1", "p2"),
  "moco_v2": ("keys", "queue"),
  "moco_v3": ("k1", "k2"),
  "simclr": (),
  "simsiam": ("z1", "z2"),
  "spectral_contrastive": (),
  "vicreg": (),
}
_TICK = 0.02  # seconds that a round repeats a short call for
_WARMED_BELOW = 3.0  # seconds; a longer call is not warmed a second time


def measure(arguments) -> dict:
  """Times network, losses and photometry in turns, and PyTorch's network.

  Args:
    arguments: of `bench.parser`; `objective` is a method or "two_view", all.
  Returns:
    {"setting", "network": {name: row}, "losses": [row], "photometry": [row],
    "ratio", "dense_ratio"}; a ratio is {"min", "median", "max"} of their
    seconds over ours in the same round.
  Raises:
    UsageError: sizes that do not fit.
  """
  if arguments.microbatches != 1:
    flag = f"--microbatches={arguments.microbatches}"
    raise UsageError(f"{flag}: two views are timed in one piece")
  every = arguments.objective == "two_view"
  methods = list(_GIVEN) if every else [arguments.objective]
  simsiam = recipe("simsiam", arguments)
  recipes = {name: recipe(name, arguments) for name in methods}
  kept = memory.keep_freed_memory()  # before JAX starts; for both
  import jax

  for config in recipes.values():
    _objective(config)  # refuses what does not fit, before the minutes
  network = {OURS: _network(simsiam)}
  if not arguments.no_torch and bench_step.has_torch("torch", "transformers"):
    network[THEIRS] = bench_torch.two_view(simsiam, arguments.torch_compile)
  losses = {name: _loss(name, config) for name, config in recipes.items()}
  if "matrix_ssl" in losses:
    losses[tables.DENSE] = _dense(recipes["matrix_ssl"])
  colours = _photometries(recipes)
  # One group after the other: between two steps of the network the small arrays
  # of the others would settle in the memory that is kept for a step, which then
  # needs it a second time.
  network, losses, colours = (
    _turns(group, arguments) for group in (network, losses, colours)
  )
  step = network[OURS]["seconds_median"]
  for row in network.values():
    row["images_per_second"] = arguments.batch / row["seconds_median"]
  for row in (*losses.values(), *colours.values()):
    own = row["seconds_median"]
    row["share_of_step"] = own / (step + own)
  result = {
    "setting": {
      **{name: getattr(arguments, name) for name in _SETTING},
      "pixels": simsiam.views["global"].size,
      "device": jax.devices()[0].device_kind,
      "jax": jax.__version__,
      "freed_memory_kept": kept,
    },
    "network": network,
    "losses": [{"method": name, **row} for name, row in losses.items()],
    "photometry": [{"methods": name, **row} for name, row in colours.items()],
  }
  if THEIRS in network:
    result["ratio"] = _ratio(network[THEIRS], network[OURS])
  if tables.DENSE in losses:
    result["dense_ratio"] = _ratio(losses[tables.DENSE], losses["matrix_ssl"])
  return result


_SETTING = (
  *("size", "objective", "batch", "dtype", "remat", "rounds"),
  *("no_torch", "torch_compile"),
)


def recipe(name, arguments):
  """A method's recipe of that size, with what the command line says."""
  size = arguments.size
  if size not in _SIZES:
    known = ", ".join(_SIZES)
    raise UsageError(f"--size={size}: two views are timed at {known}")
  module = bench_step.config_module(name)
  argument = _SIZES[size]
  known = argument is None or argument in module.ARGUMENTS
  config = module.get_config(argument if known else "resnet50")
  if not known:  # the paper has no ViT: its ResNet-50's heads on one
    from mmae_jax.models import vit_size

    config.encoder.update(name="vit", **vit_size(size))
  bench_step.check_numbers(arguments)
  config.batch_size = arguments.batch
  config.encoder.dtype = arguments.dtype
  config.encoder.remat = arguments.remat
  config.encoder.group_size = 0  # MoCo's groups are 8 GPUs
  return config


def _objective(config):
  from mmae_jax import objectives
  from mmae_jax.models import build_encoder

  size = config.batch_size
  info = RunInfo(100_000, 1000, 1000 * size, size)
  encoder = build_encoder(config.encoder, config.views["global"].size)
  return objectives.select(config.objective, encoder, info)


def _network(config):
  """(run, report) of one method without teacher, forward and backward."""
  import jax

  objective = _objective(config)
  size = config.views["global"].size
  shape = (config.batch_size, 2, size, size, 3)
  (images,) = _normal([shape])
  key = jax.random.key(0)
  # Any numbers do: to compile an initialisation takes as long as a step.
  rng = np.random.default_rng(0)
  params, model_state, _ = jax.tree.map(
    lambda x: 0.02 * rng.standard_normal(x.shape, np.float32),
    jax.eval_shape(objective.init, key, {"global": images}),
  )

  def loss(params, model_state, images):
    state = TrainState(0, params, model_state, (), {}, key)
    value, output = objective.loss(key, params, state, {"global": images})
    return value, output.model_state

  function = jax.value_and_grad(loss, has_aux=True)
  run, report = _compiled(function, (params, model_state, images))
  return run, {
    **report,
    "how": (
      "SimSiam's heads and loss, float images, without optimizer,"
      f" photometry and probe; compiled in {report['compile_seconds']:.1f} s"
    ),
  }


def _loss(name, config):
  """(run, report) of a method's loss and gradient on random outputs."""
  module = importlib.import_module(f"mmae_jax.objectives.{name}")
  function = getattr(module, f"{name}_loss")
  objective = config.objective
  batch, dim = config.batch_size, objective.projector.widths[-1]
  settings, shapes, students = {}, [], []
  for i, (key, parameter) in enumerate(
    inspect.signature(function).parameters.items()
  ):
    if parameter.kind is not parameter.KEYWORD_ONLY:
      shapes.append((objective.queue_size if key == "queue" else batch, dim))
      students += [] if key in _GIVEN[name] else [i]
    elif key in objective:
      settings[key] = objective[key]
  if name == "mec":
    settings["lambda_inverse"] = batch * objective.epsilon_squared / dim
  return _differentiated(
    functools.partial(function, **settings), shapes, students
  )


def _dense(config):
  """(run, report) of Matrix-SSL by powers of [dim, dim] matrices."""
  import bench_dense

  shape = (config.batch_size, config.objective.projector.widths[-1])
  return _differentiated(bench_dense.matrix_ssl, [shape] * 4, [0, 1])


def _differentiated(function, shapes, students):
  import jax

  def scalar(*arrays):
    value = function(*arrays)
    return value[0] if isinstance(value, tuple) else value

  run, report = _compiled(
    jax.value_and_grad(scalar, tuple(students)), _normal(shapes)
  )
  return run, {**report, "dim": shapes[0][1]}


def _photometries(recipes):
  """{methods: (run, report)}: methods of the same colours share one."""
  import jax

  from mmae_jax.data import photometry, pipeline

  found, names = {}, {}
  for name, config in recipes.items():
    names.setdefault(str(config.views["global"].photometry), []).append(name)
  for shared in names.values():
    config = recipes[shared[0]]
    rng = np.random.default_rng(0)
    batch = {
      name: rng.integers(0, 255, x.shape).astype(x.dtype)
      for name, x in pipeline.batch_shapes(config).items()
    }
    found[", ".join(shared)] = _compiled(
      photometry.make_photometry(config), (jax.random.key(0), batch)
    )
  return found


def _normal(shapes):
  rng = np.random.default_rng(0)
  return [rng.standard_normal(shape, np.float32) for shape in shapes]


def _compiled(function, arguments):
  """(run, report): `run(n)` calls it n times and waits for the last."""
  import jax

  start = time.perf_counter()
  compiled = jax.jit(function).lower(*arguments).compile()
  seconds = time.perf_counter() - start
  arguments = jax.device_put(arguments)
  used = compiled.memory_analysis()

  def run(calls):
    for _ in range(calls):
      result = compiled(*arguments)
    jax.block_until_ready(result)

  return run, {
    "compile_seconds": seconds,
    "temporary_bytes": used and used.temp_size_in_bytes,
    "flops": (compiled.cost_analysis() or {}).get("flops"),
  }


def _turns(programs, arguments):
  """{name: row} of {name: (run, report)}: one after the other, in rounds."""
  calls = {}
  for name, (run, _) in programs.items():
    seconds = bench_step.timed(run, 1)
    if seconds < _WARMED_BELOW:
      seconds = bench_step.timed(run, 1)
    calls[name] = arguments.steps or min(max(int(_TICK / seconds), 1), 100)
  times = {name: [] for name in programs}
  for _ in range(arguments.rounds):
    for name, (run, _) in programs.items():
      times[name].append(bench_step.timed(run, calls[name]) / calls[name])
  return {
    name: _row(report, times[name]) for name, (_, report) in programs.items()
  }


def _row(report, seconds):
  return {
    "seconds": seconds,
    "seconds_median": statistics.median(seconds),
    **{k: v() if callable(v) else v for k, v in report.items()},
  }


def _ratio(theirs, ours):
  rounds = zip(theirs["seconds"], ours["seconds"], strict=True)
  ratios = [a / b for a, b in rounds]
  return {
    "min": min(ratios),
    "median": statistics.median(ratios),
    "max": max(ratios),
  }
