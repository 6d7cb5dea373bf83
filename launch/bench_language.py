"""The suite `language` of launch/bench.py: what matrix cross-entropy costs.

The head of a language model with cross-entropy, forward and backward, takes
turns with the same and matrix cross-entropy, whose embeddings are the head's,
held. The rest of the large model's step is not run: its share is by number of
products, as if it ran at the head's speed. A small model's step is run whole.
"""

import functools
import statistics

import bench_step
from rich.console import Console
from rich.table import Table

from mmae_jax.types import UsageError

_NAIVE = {"tokens": 64, "vocabulary": 1000, "width": 128, "order": 4}
_HEAD_PRODUCTS = 3  # [tokens, width] x [width, vocabulary], and two backward


def measure(arguments) -> dict:
  """Times the head without and with matrix cross-entropy, and the naive form.

  Args:
    arguments: of `bench.parser`; those of its group, dtype and rounds are read.
  Returns:
    {"setting", "head", "rows": a row per Taylor order, "naive", "whole": the
    step of a small model, or why there is none}.
  Raises:
    UsageError: numbers below 1, or orders that are none.
  """
  orders = _orders(arguments)
  bench_step.check_numbers(arguments)
  import jax

  sizes = arguments.tokens, arguments.vocabulary, arguments.width
  programs = {order: _step(arguments.dtype, order) for order in (0, *orders)}
  arrays = _arrays(arguments.dtype, *sizes)
  runs = {k: _runner(jax.jit(f), arrays) for k, f in programs.items()}
  seconds = _in_turns(runs, arguments.rounds)
  larger = jax.eval_shape(
    lambda: _arrays(arguments.dtype, arguments.memory_tokens, *sizes[1:])
  )
  memory = {
    k: jax.jit(f).lower(*larger).compile().memory_analysis().temp_size_in_bytes
    for k, f in programs.items()
  }
  return {
    "setting": {
      **{name: getattr(arguments, name) for name in _COUNTS},
      "dtype": arguments.dtype,
      "rounds": arguments.rounds,
      "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
      "jax": jax.__version__,
    },
    "head": {
      "seconds": seconds[0],
      "seconds_median": statistics.median(seconds[0]),
      "temporary_bytes": memory[0],
      "logits_bytes": arguments.memory_tokens
      * arguments.vocabulary
      * arrays[0].dtype.itemsize,
    },
    "rows": [
      {
        "order": order,
        "seconds": seconds[order],
        "temporary_bytes": memory[order],
        **_figures(arguments, order, seconds[order], seconds[0]),
      }
      for order in orders
    ],
    "naive": _beside_naive(arguments.rounds),
    "whole": _whole_step(arguments.rounds),
  }


_COUNTS = ("tokens", "vocabulary", "width", "layers", "hidden", "memory_tokens")


def _orders(arguments):
  for flag in _COUNTS:
    if getattr(arguments, flag) < 1:
      raise UsageError(f"--{flag}={getattr(arguments, flag)}: at least 1")
  parts = [part.strip() for part in arguments.orders.split(",")]
  if not all(part.isdecimal() and int(part) for part in parts):
    raise UsageError(
      f"--orders={arguments.orders}: needs numbers of at least 1, as in 1,2,4"
    )
  return sorted({int(part) for part in parts})


def _arrays(dtype, tokens, vocabulary, width):
  """Hidden states, unit rows of the head, targets."""
  import jax
  import jax.numpy as jnp

  from mmae_jax import information

  keys = jax.random.split(jax.random.key(0), 3)
  rows = jax.random.normal(keys[1], (vocabulary, width), dtype)
  return (
    jax.random.normal(keys[0], (tokens, width), dtype),
    information.normalise_rows(rows).astype(dtype),
    jax.random.randint(keys[2], (tokens,), 0, vocabulary, jnp.int32),
  )


def _step(dtype, order):
  """Loss and gradients in the hidden states and the head; order 0: CE alone."""
  import jax
  import jax.numpy as jnp

  from mmae_jax import information

  wide = jnp.promote_types(dtype, jnp.float32)

  def loss(hidden, head, targets):
    logits = jnp.einsum("td,vd->tv", hidden, head)
    own = jnp.take_along_axis(logits, targets[:, None], axis=1)[:, 0]
    normaliser = jax.nn.logsumexp(logits.astype(wide), axis=1)
    value = jnp.mean(normaliser - own)
    if not order:
      return value
    terms = information.token_matrix_cross_entropy(
      logits, targets, jax.lax.stop_gradient(head), order=order
    )
    return value + jnp.mean(terms)

  return jax.value_and_grad(loss, (0, 1))


def _runner(program, arrays):
  import jax

  def run(calls):
    for _ in range(calls):
      result = jax.block_until_ready(program(*arrays))
    return result

  return run


def _in_turns(runs, rounds):
  """{name: seconds of every round}; one call of each after the other."""
  for run in runs.values():
    run(1)
  seconds = {name: [] for name in runs}
  for _ in range(rounds):
    for name, run in runs.items():
      seconds[name].append(bench_step.timed(run, 1))
  return seconds


def _figures(arguments, order, whole, head):
  """Ratios of a round to the head's of the same round, and what follows."""
  ratios = [(w - h) / h for w, h in zip(whole, head, strict=True)]
  ratio = statistics.median(ratios)
  d, products = arguments.width, arguments.vocabulary * arguments.width
  body = arguments.layers * (4 * d * d + 3 * d * arguments.hidden)
  return {
    "mce_over_head": ratio,
    "mce_over_head_range": (min(ratios), max(ratios)),
    "mce_over_head_by_products": max(2 * order - 1, 2) / _HEAD_PRODUCTS,
    "mce_over_head_per_order": ratio / order,
    "share_of_step": ratio * products / (body + (1 + ratio) * products),
  }


def _beside_naive(rounds):
  """Values and gradients in the logits, ours and with [dim, dim] matrices."""
  import jax
  import jax.numpy as jnp

  from mmae_jax import information

  order = _NAIVE["order"]
  sizes = _NAIVE["tokens"], _NAIVE["vocabulary"], _NAIVE["width"]
  hidden, embeddings, targets = _arrays("float32", *sizes)
  arrays = jnp.einsum("td,vd->tv", hidden, embeddings), targets, embeddings

  def naive(logits, targets, embeddings):
    def one(logits, target):
      q = jax.nn.softmax(logits)
      matrix = jnp.einsum("v,vd,ve->de", q, embeddings, embeddings)
      log = information.matrix_log(
        matrix + jnp.eye(sizes[2]), method="taylor", order=order
      )
      return jnp.trace(matrix) - embeddings[target] @ log @ embeddings[target]

    return jax.vmap(one)(logits, targets)

  ours = functools.partial(information.token_matrix_cross_entropy, order=order)

  def with_gradient(f):
    def total(*arrays):
      values = f(*arrays)
      return jnp.sum(values), values

    program = jax.jit(jax.value_and_grad(total, has_aux=True))
    return program.lower(*arrays).compile()

  programs = {
    "ours": with_gradient(ours),
    "ours, Lanczos": with_gradient(functools.partial(ours, method="lanczos")),
    "[dim, dim] per token": with_gradient(naive),
  }
  runs = {k: _runner(program, arrays) for k, program in programs.items()}
  seconds = _in_turns(runs, rounds)
  expected = runs["ours"](1)[0][1]
  rows = {}
  for name, run in runs.items():
    ratios = [
      s / o for s, o in zip(seconds[name], seconds["ours"], strict=True)
    ]
    difference = jnp.max(jnp.abs(run(1)[0][1] - expected))
    rows[name] = {
      "seconds": seconds[name],
      "seconds_median": statistics.median(seconds[name]),
      "over_ours": statistics.median(ratios),
      "temporary_bytes": programs[name].memory_analysis().temp_size_in_bytes,
      "difference": float(difference),
    }
  return {**_NAIVE, "rows": rows}


def _whole_step(rounds):
  """Steps of a small model with and without the term, in turns."""
  import bench_language_step

  try:
    steps, arguments, setting = bench_language_step.build()
  except UsageError as error:
    return {"missing": str(error)}
  runs = {name: _runner(step, arguments) for name, step in steps.items()}
  seconds = _in_turns(runs, rounds)
  shares = [
    (both - alone) / both
    for alone, both in zip(seconds["CE"], seconds["CE + MCE"], strict=True)
  ]
  return {
    "setting": setting,
    "seconds": seconds,
    "share_of_step": statistics.median(shares),
    "share_range": (min(shares), max(shares)),
    "temporary_bytes": {
      name: step.memory_analysis().temp_size_in_bytes
      for name, step in steps.items()
    },
    "logits_bytes": 4
    * setting["batch"]
    * setting["length"]
    * setting["vocabulary"],
  }


def show(result: dict) -> None:
  """Prints what `measure` returned."""
  setting, head = result["setting"], result["head"]
  mib = lambda size: f"{size / 2**20:,.0f} MiB"
  console = Console(width=100, markup=False)
  console.print(
    f"Head of a language model, {setting['vocabulary']:,} x {setting['width']}"
    f" in {setting['dtype']}, forward and backward with cross-entropy, on"
    f" {setting['tokens']:,} tokens, {setting['devices']}:"
    f" {head['seconds_median']:.3g} s (median of {setting['rounds']} rounds);"
    f" temporary memory on {setting['memory_tokens']:,} tokens"
    f" {mib(head['temporary_bytes'])}, of which the logits are"
    f" {mib(head['logits_bytes'])}"
  )
  table = Table(title="Matrix cross-entropy beside it, in its turns")
  for column in (
    *("order", "time / head's", "range", "by products", "per order"),
    *("share of the step", "memory more"),
  ):
    table.add_column(column, justify="right")
  for row in result["rows"]:
    more = row["temporary_bytes"] - head["temporary_bytes"]
    low, high = row["mce_over_head_range"]
    table.add_row(
      str(row["order"]),
      f"{row['mce_over_head']:.2f}",
      f"{low:.2f} to {high:.2f}",
      f"{row['mce_over_head_by_products']:.2f}",
      f"{row['mce_over_head_per_order']:.2f}",
      f"{row['share_of_step']:.1%}",
      f"{mib(more)} = {more / head['logits_bytes']:.2f} logits",
    )
  console.print(table)
  console.print(
    "With many tokens products decide, and the ratio is for any number of them;"
    " with few, both read and write the weights in most of their time."
    " The share is of a step of the whole model by its products,"
    f" {setting['layers']} (4 width^2 + 3 width {setting['hidden']}) + width"
    " vocabulary weights, as if all ran at the head's speed, without attention"
    " scores and without recomputation: not a measured step."
  )
  naive = result["naive"]
  console.print(
    f"\nValue and gradient at {naive['tokens']} tokens, vocabulary"
    f" {naive['vocabulary']:,}, width {naive['width']}, order {naive['order']}:"
  )
  for name, row in naive["rows"].items():
    console.print(
      f"  {name}: {row['seconds_median'] * 1e3:.3g} ms,"
      f" {row['over_ours']:.3g} times ours, {mib(row['temporary_bytes'])},"
      f" values differ from ours by {row['difference']:.1e}"
    )
  _show_whole(console, result["whole"])


def _show_whole(console, whole):
  if "missing" in whole:
    console.print(f"\nThe whole step is not measured: {whole['missing']}")
    return
  setting, memory = whole["setting"], whole["temporary_bytes"]
  medians = {k: statistics.median(s) for k, s in whole["seconds"].items()}
  low, high = whole["share_range"]
  mib = lambda size: f"{size / 2**20:.1f} MiB"
  console.print(
    f"\nWhole training step of configs/matrix_llm.py, {setting['layers']}"
    f" layers of width {setting['width']}, {setting['batch']} x"
    f" {setting['length']} tokens, vocabulary {setting['vocabulary']}:"
    f" {medians['CE'] * 1e3:.3g} ms with CE, {medians['CE + MCE'] * 1e3:.3g} ms"
    f" with CE + MCE, whose share is {whole['share_of_step']:.0%} ({low:.0%} to"
    f" {high:.0%}); temporary memory {mib(memory['CE'])} and"
    f" {mib(memory['CE + MCE'])}, logits {mib(whole['logits_bytes'])}"
  )
