"""What devices can do at most, to say how much of it is used."""

# Dense products in 10^12 FLOP/s, (bfloat16, float32): the makers' data sheets.
# float32 is what JAX's default precision runs: TF32 on Ampere and later, single
# bfloat16 passes on a TPU. The first name that is part of device_kind counts.
_PEAKS = (
  ("H200", (989.4, 494.7)),
  ("H100 PCIe", (756.0, 378.0)),
  ("H100 NVL", (835.0, 417.5)),
  ("H100", (989.4, 494.7)),
  ("A100", (311.9, 156.0)),
  ("V100", (None, 15.7)),
  ("TPU v6", (918.0, 918.0)),
  ("TPU v5 lite", (197.0, 197.0)),
  ("TPU v5e", (197.0, 197.0)),
  ("TPU v5", (459.0, 459.0)),
  ("TPU v4", (275.0, 275.0)),
)


def peak_flops(device_kind: str, dtype: str) -> float | None:
  """Largest rate of dense products on one device.

  Args:
    device_kind: `jax.Device.device_kind`, such as "NVIDIA H200".
    dtype: "bfloat16" or "float32".
  Returns:
    FLOP/s, or None where unknown (every CPU).
  """
  for name, (bfloat16, float32) in _PEAKS:
    if name in device_kind:
      peak = bfloat16 if dtype == "bfloat16" else float32
      return peak * 1e12 if peak else None
  return None
