"""Colour on the device: against Pillow, float64 formulas and the recipes.

The float64 formulas are written from the definitions, one image at a time.
"""

import colorsys
import functools

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
import pytest

from mmae_jax import augmentations, config as config_lib
from mmae_jax.data import blur, colour, photometry
from mmae_jax.data.recipe import read_recipe
from mmae_jax.types import UsageError

SIZE = 24  # the smallest at which a truncated Gaussian does anything is 20
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
MANY = 4000
SEEDS = np.random.default_rng(0).integers(0, 2**32, MANY, dtype=np.uint32)


def pictures(count, size=SIZE, seed=0):
  """uint8 [count, size, size, 3]: smooth colours with some noise."""
  rng = np.random.default_rng(seed)
  coarse = rng.integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)
  smooth = [Image.fromarray(c).resize((size, size)) for c in coarse]
  noise = rng.normal(0, 6, (count, size, size, 3))
  return np.clip(np.array(smooth) + noise, 0, 255).astype(np.uint8)


def planes(images):
  """uint8 [..., height, width, 3] -> float32 planes in [0, 1]."""
  return np.moveaxis(images, -1, -3).astype(np.float32) / 255


def levels(x):
  """Planes in [0, 1] -> float grey levels [..., height, width, 3]."""
  return np.moveaxis(np.asarray(x, np.float64), -3, -1) * 255


# --- formulas: x is float64 [height, width, 3] in [0, 1]


def true_grey(x, forms):
  weights = {
    "pillow": (0.299, 0.587, 0.114),
    "tensorflow": (0.2989, 0.5870, 0.1140),
  }
  return np.repeat((x @ np.array(weights[forms]))[..., None], 3, axis=-1)


def through_hsv(x, change):
  pixels = [
    colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*pixel)))
    for pixel in x.reshape(-1, 3)
  ]
  return np.reshape(pixels, x.shape)


def true_jitter(x, order, values, forms, additive):
  """`order` lists the operations as they come, `values` is indexed by them."""
  for operation in order:
    value = values[operation]
    if operation == BRIGHTNESS:
      x = x + value if additive else x * value
    elif operation == CONTRAST:
      mean = x.mean((0, 1))
      if forms == "pillow":
        mean = true_grey(x, forms).mean()
      x = value * x + (1 - value) * mean
    elif operation == HUE:
      x = through_hsv(x, lambda h, s, v, t=value: ((h + t) % 1, s, v))
    elif forms == "pillow":
      x = value * x + (1 - value) * true_grey(x, forms)
    else:
      x = through_hsv(x, lambda h, s, v, f=value: (h, min(s * f, 1), v))
    x = np.clip(x, 0, 1)
  return x


def true_gaussian(x, sigma):
  radius = int(len(x) / 20)
  taps = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
  blurred = functools.partial(np.convolve, taps / taps.sum(), mode="same")
  for axis in (0, 1):
    x = np.apply_along_axis(blurred, axis, x)
  return x


gaussian_matrix = jax.jit(blur.gaussian_matrix, static_argnums=1)


@jax.jit
def pillow_matrix(sigmas):
  return blur.pillow_matrix(sigmas, SIZE, highest=5.0)


@functools.partial(jax.jit, static_argnums=(4, 5))
def run_jitter(x, factors, turns, rounds, forms, additive):
  return colour.jitter(
    x,
    factors,
    turns,
    rounds,
    forms=forms,
    additive=additive,
    hue_last=False,
  )


# --- one operation at a time


@pytest.mark.parametrize("form", [("pillow", False), ("tensorflow", True)])
def test_jitter_in_all_orders(form):
  forms, additive = form
  rng = np.random.default_rng(1)
  count = len(colour.ORDERS)
  images = pictures(count)
  images[0, :4] = 0  # without a hue
  images[1, :4] = 255
  images[2, :4] = 90
  values = rng.uniform(0.2, 1.8, (4, count)).astype(np.float32)
  if additive:
    values[BRIGHTNESS] -= 1
  values[HUE] = rng.uniform(-0.5, 0.5, count)
  found = run_jitter(
    planes(images), list(values[:HUE]), values[HUE], colour.ORDERS, *form
  )
  orders = set()
  for i, image in enumerate(images):
    order = np.argsort(colour.ORDERS[i])
    orders.add(tuple(order))
    expected = true_jitter(image / 255, order, values[:, i], forms, additive)
    np.testing.assert_allclose(levels(found[i]) / 255, expected, atol=2e-5)
  assert len(orders) == count == 24


# How far Pillow's 8 bits take each operation, in grey levels. It cuts fractions
# off, rounds the grey image and its mean, and H, S and V to 8 bits each.
PILLOW = {  # (largest, mean)
  BRIGHTNESS: (1.0, 0.5, ImageEnhance.Brightness),
  CONTRAST: (1.5, 0.5, ImageEnhance.Contrast),
  SATURATION: (1.5, 0.5, ImageEnhance.Color),
  HUE: (14.0, 2.5, None),  # a step of H is six levels; it wraps at 256 of 255
}


def test_jitter_against_pillow():
  factors = (0.3, 0.8, 1.6)
  count = 4 * len(factors)
  images = pictures(count, seed=2)
  values = np.ones((4, count), np.float32)
  values[HUE] = 0
  for operation in PILLOW:
    for j, factor in enumerate(factors):
      values[operation, operation * len(factors) + j] = factor
  shifts = (20, -60, 128)  # of Pillow's 8-bit hue
  values[HUE, -3:] = np.array(shifts) / 255
  rounds = np.tile(colour.ORDERS[:1], (count, 1))
  arguments = (list(values[:HUE]), values[HUE], rounds)
  # Batches as long as the other test's, for its compiled program.
  padded = jax.tree.map(
    lambda a: np.concatenate([a, a]), (planes(images), *arguments)
  )
  found = levels(run_jitter(*padded, "pillow", False))
  for operation, (most, mean, enhance) in PILLOW.items():
    for j, factor in enumerate(factors):
      i = operation * len(factors) + j
      image = Image.fromarray(images[i])
      if enhance:
        expected = enhance(image).enhance(factor)
      else:
        hsv = np.array(image.convert("HSV"))
        hsv[..., 0] += np.array(shifts[j]).astype(np.uint8)
        expected = Image.fromarray(hsv, "HSV").convert("RGB")
      error = np.abs(found[i] - np.asarray(expected, np.float64))
      assert error.max() <= most, (operation, factor)
      assert error.mean() <= mean, (operation, factor)


def test_a_factor_of_one_changes_no_bit():
  x = planes(pictures(24, seed=3))
  one, none = np.ones(24, np.float32), np.zeros(24, np.float32)
  found = run_jitter(x, [one] * 3, none, colour.ORDERS, "pillow", False)
  np.testing.assert_allclose(found, x, atol=1e-6)  # hue computes
  found = run_jitter(
    x, [none, one, one], none, colour.ORDERS, "tensorflow", True
  )
  np.testing.assert_allclose(found, x, atol=1e-6)


def test_grey_and_solarise_against_pillow():
  images = pictures(2, seed=4)
  x = planes(images)
  found = levels(colour.grey(x, forms="pillow"))[..., 0]
  expected = [np.asarray(Image.fromarray(i).convert("L")) for i in images]
  np.testing.assert_allclose(found, expected, atol=0.51)
  for threshold in (128, 60):
    share = np.full(2, threshold / 255, np.float32)
    expected = [
      ImageOps.solarize(Image.fromarray(i), threshold) for i in images
    ]
    found = levels(colour.solarise(x, share))
    np.testing.assert_allclose(found, np.array(expected), atol=1e-3)


def test_pillow_blur():
  sigmas = np.array([0.1, 0.3, 0.5, 0.7, 0.9, 1.3, 1.99, 5.0], np.float32)
  images = pictures(len(sigmas), seed=5)
  matrix = pillow_matrix(np.tile(sigmas, 4))[: len(sigmas)]
  np.testing.assert_allclose(np.sum(matrix, -1), 1, atol=1e-6)
  found = levels(blur.blur(planes(images), matrix))
  for i, sigma in enumerate(sigmas):
    filtered = Image.fromarray(images[i]).filter(
      ImageFilter.GaussianBlur(float(sigma))
    )
    error = found[i] - np.asarray(filtered, np.float64)
    assert np.abs(error).max() <= 3, sigma  # six roundings
    assert abs(error.mean()) <= 0.1, sigma
  # Far from the border, three boxes have the variance that was asked for.
  impulse = np.asarray(matrix, np.float64)[5, SIZE // 2]
  offsets = np.arange(SIZE) - SIZE // 2
  assert offsets**2 @ impulse == pytest.approx(1.3**2, abs=1e-4)


def test_gaussian_blur():
  size = 48
  sigmas = np.array([0.1, 1.0, 2.0], np.float32)
  images = pictures(3, size, seed=6)
  matrix = gaussian_matrix(sigmas, size)
  found = levels(blur.blur(planes(images), matrix))
  for i, sigma in enumerate(sigmas):
    expected = true_gaussian(images[i].astype(np.float64), sigma)
    np.testing.assert_allclose(found[i], expected, atol=1e-3)
  assert np.count_nonzero(matrix[2, size // 2]) == 2 * 2 + 1
  matrix = gaussian_matrix(sigmas, 224)
  assert np.count_nonzero(matrix[2, 112]) == 23


# --- a whole recipe


def make_config(name=None, **changes):
  config = config_lib.base()
  config.lock()
  view = config.views["global"]
  view.count, view.size = 2, SIZE
  if name:
    view.update(augmentations.views(name))
    view.photometry.update(augmentations.photometry(name, **changes))
  return config


def make_batch(count, seed=0):
  images = pictures(count, seed=seed)
  return {
    "global": np.stack([images, images], axis=1),
    "index": np.arange(count, dtype=np.int32),
    "label": np.zeros(count, np.int32),
    "seed": SEEDS[:count],
  }


@functools.cache
def program(name):
  """(key, batch) -> views in NumPy; moco_v3's rows lie on eight devices."""
  run = jax.jit(photometry.make_photometry(make_config(name)))
  mesh = Mesh(np.array(jax.devices()), ("data",))
  rows = NamedSharding(mesh, PartitionSpec("data"))

  def on_devices(key, batch):
    views = run(key, jax.device_put(batch, rows))
    assert views["global"].sharding.is_equivalent_to(rows, 5)
    return jax.tree.map(np.asarray, views)

  def on_one(key, batch):
    return jax.tree.map(np.asarray, run(key, batch))

  return on_devices if name == "moco_v3" else on_one


@pytest.mark.parametrize("name", ["byol", "moco_v3"])
def test_the_chain_against_the_formulas(name):
  view = make_config(name).views["global"]
  recipe = read_recipe("global", view)
  key, batch = jax.random.key(5), make_batch(16)
  found = program(name)(key, batch)["global"].astype(np.float64)
  found = found * view.std + view.mean
  drawn = photometry.draw(key, SEEDS, recipe)
  drawn = {key: np.asarray(value)[:16] for key, value in drawn.items()}
  matrices = pillow_matrix(drawn["sigma"].ravel())
  matrices = np.reshape(matrices, (16, 2, SIZE, SIZE))
  for where in np.ndindex(16, 2):
    p = {key: value[where] for key, value in drawn.items()}
    x = batch["global"][where] / 255
    if p["jitter"]:
      keys = ("brightness", "contrast", "saturation", "hue")
      order = np.argsort(p["rounds"])
      values = [p[key] for key in keys]
      x = true_jitter(x, order, values, recipe.forms, name == "byol")
    if p["grey"]:
      x = true_grey(x, recipe.forms)
    if p["blur"] and name == "byol":
      x = true_gaussian(x, p["sigma"])
    elif p["blur"]:
      x = np.einsum("ij,jkc,lk->ilc", matrices[where], x, matrices[where])
    threshold = recipe.threshold[0]
    near = np.abs(x - threshold) < 1e-4  # where rounding decides
    if p["solarise"]:
      x = np.where(x < threshold, x, 1 - x)
    np.testing.assert_allclose(found[where][~near], x[~near], atol=3e-5)


@pytest.mark.parametrize("name", ["byol", "moco_v3"])
def test_rows_may_come_in_any_order(name):
  key, batch = jax.random.key(3), make_batch(16)
  views = program(name)(key, batch)
  assert set(views) == {"global", "index", "seed"}
  found = views["global"]
  again = program(name)(key, batch)["global"]
  np.testing.assert_array_equal(found, again)
  order = np.random.default_rng(0).permutation(16)
  shuffled = {k: v[order] for k, v in batch.items()}
  np.testing.assert_array_equal(
    found[order], program(name)(key, shuffled)["global"]
  )
  other = program(name)(jax.random.key(4), batch)["global"]
  assert (np.abs(other - found).max((1, 2, 3, 4)) > 0.01).all()
  # The two views are of the same pixels.
  assert (np.abs(found[:, 0] - found[:, 1]).max((1, 2, 3)) > 0.01).all()
  view = make_config(name).views["global"]
  pixels = found * view.std + view.mean
  assert pixels.min() >= -1e-5 and pixels.max() <= 1 + 1e-5


@pytest.mark.parametrize("name", augmentations.names())
def test_draws_follow_the_recipe(name):
  view = make_config(name).views["global"]
  recipe = read_recipe("global", view)
  drawn = photometry.draw(jax.random.key(1), SEEDS, recipe)
  drawn = {key: np.asarray(value) for key, value in drawn.items()}
  error = 4.5 / np.sqrt(MANY)  # in standard deviations of the mean
  for i in range(2):
    for key in ("jitter", "grey", "blur", "solarise"):
      p = getattr(recipe, key)[i]
      assert abs(drawn[key][:, i].mean() - p) <= error * np.sqrt(p - p * p)
    ranges = {"hue": (-recipe.hue[i], recipe.hue[i])}
    for key in ("brightness", "contrast", "saturation"):
      strength = getattr(recipe, key)[i]
      ranges[key] = (max(0, 1 - strength), 1 + strength)
    if name == "byol":
      ranges["brightness"] = (-0.4, 0.4)
    if name == "simclr":
      for sigma in drawn["sigma"].T:
        assert np.ptp(sigma) == 0 and 0.1 <= sigma[0] <= 2.0
    else:
      ranges["sigma"] = (0.1, 2.0)
    for key, (low, high) in ranges.items():
      values = drawn[key][:, i]
      assert low - 1e-6 <= values.min() and values.max() <= high + 1e-6
      assert np.ptp(values) >= 0.99 * (high - low)
      deviation = (high - low) / np.sqrt(12)
      assert abs(values.mean() - (low + high) / 2) <= error * deviation
      assert abs(values.std() - deviation) <= 0.03 * deviation + 1e-6
    numbers = drawn["rounds"][:, i] @ 4 ** np.arange(4)
    orders, counts = np.unique(numbers, return_counts=True)
    assert len(orders) == 24
    squares = ((counts - MANY / 24) ** 2).sum() / (MANY / 24)
    assert squares < 60  # chi-squared, 23 degrees of freedom: p = 4e-5
  if name != "simclr":
    correlation = np.corrcoef(drawn["sigma"].T)[0, 1]
    assert abs(correlation) < error  # views are independent
  assert (drawn["sigma"][:, 0] != drawn["sigma"][:, 1]).all()
  assert abs(np.corrcoef(drawn["hue"][:, 0], drawn["contrast"][:, 0])[0, 1]) < (
    error
  )


def test_a_draw_does_not_depend_on_the_other_operations():
  kinds = ("moco_v3", "swav")
  first, second = (
    photometry.draw(
      jax.random.key(1),
      SEEDS,
      read_recipe("global", make_config(kind).views["global"]),
    )
    for kind in kinds
  )
  for key in ("jitter", "grey", "rounds", "sigma"):
    np.testing.assert_array_equal(first[key], second[key])


def test_fixed_order_and_no_hue():
  for changes in ({"order": "fixed"}, {"hue": 0}):
    config = make_config("swav", **changes)
    recipe = read_recipe("global", config.views["global"])
    drawn = photometry.draw(jax.random.key(1), SEEDS, recipe)
    found = {tuple(r) for r in np.asarray(drawn["rounds"]).reshape(-1, 4)}
    assert recipe.hue_last and {r[HUE] for r in found} == {3}
    assert len(found) == (1 if "order" in changes else 6)
    assert (0, 1, 2, 3) in found


def test_off_is_the_program_without_photometry():
  """What the masked models run, also from configs of earlier versions."""
  config, batch = make_config(), make_batch(4)
  view = config.views["global"]

  def plain(key, batch):
    del key
    pixels = photometry.normalise(batch["global"], mean=view.mean, std=view.std)
    facts = {name: batch[name] for name in ("index", "seed")}
    return {"global": pixels, **facts}

  old = config_lib.from_json(config_lib.to_json(config))
  del old.views["global"].photometry
  of_probability_0 = make_config("byol", jitter=0, grey=0, blur=0, solarise=0)
  of_probability_0.views["global"].update(mean=view.mean, std=view.std)
  expected = str(jax.make_jaxpr(plain)(jax.random.key(0), batch))
  for c in (config, old, of_probability_0):
    program = photometry.make_photometry(c)
    assert str(jax.make_jaxpr(program)(jax.random.key(0), batch)) == expected


# --- what cannot be


@pytest.mark.parametrize(
  "key, value, message",
  [
    ("blur", (0.5, 0.5, 0.5), "3 entries; the views' count is 2"),
    ("blur", 1.5, "a probability"),
    ("grey", -0.1, "a probability"),
    ("jitter", float("nan"), "a probability"),
    ("brightness", -0.4, "at least 0"),
    ("contrast", (0.4, -0.4), "at least 0"),
    ("saturation", float("inf"), "at least 0"),
    ("hue", 0.6, r"in \[0, 0.5\]"),
    ("sigma_low", 3.0, "above sigma_high=2.0"),
    ("sigma_low", 0, "positive"),
    ("threshold", 128, r"in \[0, 1\]"),
    ("solarise", "often", "must be a number"),
    ("solarise", True, "must be a number"),
    ("order", "any", "random or fixed"),
    ("forms", "torch", "pillow or tensorflow"),
    ("blur_kernel", "box", "pillow or gaussian"),
    ("sigma_of", "view", "image or batch"),
    ("brightness_form", "gamma", "multiplicative or additive"),
  ],
)
def test_refuses(key, value, message):
  config = make_config("simsiam")
  config.views["global"].photometry[key] = value
  flag = rf"--config\.views\.global\.photometry\.{key}="
  with pytest.raises(UsageError, match=flag + ".*" + message):
    photometry.make_photometry(config)


def test_refuses_an_unknown_key():
  config = make_config("simsiam")
  with config.unlocked():
    config.views["global"].photometry.sharpness = 1.0
  with pytest.raises(UsageError, match=r"photometry\.sharpness=1\.0"):
    photometry.make_photometry(config)
