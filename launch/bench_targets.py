"""What the suite `information` has to reach, and whether it does."""

# Where the targets are stated: (batch, dim); the regulariser's own size is the
# width of the step's encoder.
MATRIX_SSL, MATRIX_SSL_SIZE = "Matrix-SSL loss", (1024, 2048)
REGULARISER = "M-MAE coding rate"
ENTROPY_2 = "entropy of order 2"
OURS, PRODUCTS = "ours", "its products alone"
DENSE, TORCH = "dense, JAX", "dense, PyTorch"
LEAN = "dense, JAX, P T not formed"


def targets(result: dict) -> list[tuple[str, str, str, bool | None]]:
  """(what, needed, measured, whether reached or no target)."""
  entries, found = result["entries"], []
  for form in (DENSE, LEAN):
    entry = _at(entries, MATRIX_SSL, form, MATRIX_SSL_SIZE)
    if entry:
      found.append(_speed_up(entry, f"than {form}", 8.0))
  for distance in result["agreement"]:
    # How exact the dense form is says what can be asked of the difference.
    judged = distance["what"] != "dense to float64"
    worst = max(distance["value"], distance["gradient"])
    found.append(
      (
        f"{MATRIX_SSL} at {_shape(distance['size'])}, {distance['dtype']},"
        f" {distance['what']}: value, gradient",
        "1e-06" if judged else "",
        f"{distance['value']:.1e}, {distance['gradient']:.1e}",
        worst <= 1e-6 if judged else None,
      )
    )
  size = tuple(result["regulariser_size"])
  if entry := _at(entries, REGULARISER, TORCH, size):
    found.append(_speed_up(entry, f"than {TORCH}", 1.0))
  if entry := _at(entries, REGULARISER, OURS, size):
    share = entry["share_of_step"]
    found.append(
      (
        f"{REGULARISER} at {_shape(size)}, share of the step",
        "below 1 %",
        f"{share:.2%}",
        share < 0.01,
      )
    )
  if entry := _at(entries, ENTROPY_2, PRODUCTS, MATRIX_SSL_SIZE):
    ratio = 1 / entry["ratio"]["median"]
    found.append(
      (
        f"{ENTROPY_2} at {_shape(_shape_of(entry))}, time over that of"
        f" {PRODUCTS}",
        "about 1 (at most 1.25)",
        f"{ratio:.2f}",
        ratio <= 1.25,
      )
    )
  return found


def _speed_up(entry, than, needed):
  ratio = entry["ratio"]
  return (
    f"{entry['quantity']} at {_shape(_shape_of(entry))}, faster {than}",
    f"{needed:g}x",
    f"{ratio['median']:.2f}x ({ratio['min']:.2f} to {ratio['max']:.2f})",
    ratio["median"] >= needed,
  )


def _at(entries, quantity, form, size):
  """The measured entry with gradient at that size, or at the largest."""
  able = {
    _shape_of(entry): entry
    for entry in entries
    if (entry["quantity"], entry["form"]) == (quantity, form)
    and entry["gradient"]
    and not entry["extrapolated"]
  }
  if size in able:
    return able[size]
  return able[max(able, key=lambda s: s[0] * s[1])] if able else None


def _shape_of(entry):
  return entry["batch"], entry["dim"]


def _shape(size):
  return f"{size[0]} x {size[1]}"
