"""Masked autoencoder: a ViT on the kept patches and a light decoder."""

import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
  """Multi-head self-attention with one fused projection."""

  def __init__(self, width, heads):
    super().__init__()
    self.heads = heads
    self.qkv = nn.Linear(width, 3 * width)
    self.proj = nn.Linear(width, width)

  def forward(self, x):
    batch, length, width = x.shape
    qkv = self.qkv(x).view(batch, length, 3, self.heads, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    x = F.scaled_dot_product_attention(query, key, value)
    return self.proj(x.transpose(1, 2).reshape(batch, length, width))


class MLP(nn.Module):
  """Linear, exact GELU, linear."""

  def __init__(self, width, hidden):
    super().__init__()
    self.fc1 = nn.Linear(width, hidden)
    self.fc2 = nn.Linear(hidden, width)

  def forward(self, x):
    return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
  """x + attention(norm x), then x + mlp(norm x)."""

  def __init__(self, width, heads, ratio, epsilon):
    super().__init__()
    self.norm1 = nn.LayerNorm(width, eps=epsilon)
    self.attn = Attention(width, heads)
    self.norm2 = nn.LayerNorm(width, eps=epsilon)
    self.mlp = MLP(width, int(width * ratio))

  def forward(self, x):
    x = x + self.attn(self.norm1(x))
    return x + self.mlp(self.norm2(x))


def positions(width, grid):
  """[1, 1 + grid^2, width] in float64: zeros, then [column | row] of sines.

  Position t is [sin(t w_k) | cos(t w_k)], w_k = 10000^(-k / n), n = width / 4.
  """
  n = width // 4
  powers = torch.arange(n, dtype=torch.float64) / n
  angles = torch.arange(grid, dtype=torch.float64)[:, None] / 10000**powers
  line = torch.cat([angles.sin(), angles.cos()], dim=1)
  column = line[None].expand(grid, grid, -1)
  row = line[:, None].expand(grid, grid, -1)
  tokens = torch.cat([column, row], dim=2).reshape(grid * grid, width)
  return torch.cat([torch.zeros(1, width, dtype=torch.float64), tokens])[None]


def patchify(images, patch):
  """[n, size, size, 3] to [n, patches, patch^2 3], the channel fastest."""
  n, size, _, channels = images.shape
  grid = size // patch
  x = images.view(n, grid, patch, grid, patch, channels)
  return x.transpose(2, 3).reshape(n, grid * grid, -1)


class MaskedAutoencoder(nn.Module):
  """MAE: encodes the patches with the lowest noise, predicts all."""

  def __init__(self, encoder, decoder, *, size, mask_ratio):
    """Builds both halves.

    Args:
      encoder, decoder: width, depth, heads; mlp_ratio, epsilon, and patch of
        the encoder.
      size: side of an image in pixels.
      mask_ratio: share of the patches that is removed.
    """
    super().__init__()
    self.patch = encoder["patch"]
    grid = size // self.patch
    self.kept = int(grid * grid * (1 - mask_ratio))

    def blocks(of):
      return nn.ModuleList(
        Block(of["width"], of["heads"], of["mlp_ratio"], of["epsilon"])
        for _ in range(of["depth"])
      )

    width, narrow = encoder["width"], decoder["width"]
    self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
    self.mask_token = nn.Parameter(torch.zeros(1, 1, narrow))
    self.register_buffer("pos_embed", positions(width, grid))
    self.register_buffer("decoder_pos_embed", positions(narrow, grid))
    self.patch_embed = nn.ModuleDict(
      {"proj": nn.Conv2d(3, width, self.patch, stride=self.patch)}
    )
    self.blocks = blocks(encoder)
    self.norm = nn.LayerNorm(width, eps=encoder["epsilon"])
    self.decoder_embed = nn.Linear(width, narrow)
    self.decoder_blocks = blocks(decoder)
    self.decoder_norm = nn.LayerNorm(narrow, eps=decoder["epsilon"])
    self.decoder_pred = nn.Linear(narrow, 3 * self.patch**2)

  def encode(self, images, kept=None):
    """Tokens after the last norm, the class token first."""
    x = self.patch_embed["proj"](images.permute(0, 3, 1, 2))
    x = x.flatten(2).transpose(1, 2) + self.pos_embed[:, 1:]
    if kept is not None:
      x = x.gather(1, kept[:, :, None].expand(-1, -1, x.shape[2]))
    first = self.cls_token + self.pos_embed[:, :1]
    x = torch.cat([first.expand(len(x), -1, -1), x], dim=1)
    for block in self.blocks:
      x = block(x)
    return self.norm(x)

  def represent(self, images):
    """[n, width]: the class token of the whole image."""
    return self.encode(images)[:, 0]

  def forward(self, images, noise):
    """(prediction [n, patches, patch^2 3], mask [n, patches], tokens)."""
    order = noise.argsort(dim=1)
    place = order.argsort(dim=1)
    mask = (place >= self.kept).to(images.dtype)
    latent = self.encode(images, order[:, : self.kept])
    x = self.decoder_embed(latent)
    missing = noise.shape[1] - self.kept
    blank = self.mask_token.expand(len(x), missing, -1)
    tokens = torch.cat([x[:, 1:], blank], dim=1)
    tokens = tokens.gather(1, place[:, :, None].expand(-1, -1, x.shape[2]))
    x = torch.cat([x[:, :1], tokens], dim=1) + self.decoder_pos_embed
    for block in self.decoder_blocks:
      x = block(x)
    return self.decoder_pred(self.decoder_norm(x))[:, 1:], mask, latent
