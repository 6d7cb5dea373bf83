"""Tokenizers: of bytes, trained, or of a local Hugging Face folder.

A tokenizer of ours is an object with `encode`, `decode`, `bos_id`, `eos_id`,
`pad_id` and `size`, which is what tunix's sampler asks of one.
"""

from collections.abc import Iterable

from etils import epath

from mmae_jax.types import UsageError

_SPECIAL = ("<pad>", "<s>", "</s>")


class Bytes:
  """A token is a byte; three more begin, end and fill a sequence.

  Attributes:
    size: the number of tokens.
  """

  size = 256 + len(_SPECIAL)

  def encode(self, text: str) -> list[int]:
    """The tokens of a text, without begin and end."""
    return [byte + len(_SPECIAL) for byte in text.encode()]

  def decode(self, ids: Iterable[int]) -> str:
    """The text of tokens; begin, end and padding are left out."""
    kept = [i - len(_SPECIAL) for i in map(int, ids) if i >= len(_SPECIAL)]
    return bytes(kept).decode(errors="replace")

  def pad_id(self) -> int:
    """Of the padding."""
    return _SPECIAL.index("<pad>")

  def bos_id(self) -> int:
    """Of the begin."""
    return _SPECIAL.index("<s>")

  def eos_id(self) -> int:
    """Of the end."""
    return _SPECIAL.index("</s>")


class Library:
  """A tokenizer of the `tokenizers` library whose first codes are ours.

  Attributes:
    size: the number of tokens.
  """

  def __init__(self, tokenizer):
    """Takes a tokenizers.Tokenizer that `train` has made."""
    self._tokenizer = tokenizer
    self.size = tokenizer.get_vocab_size()

  def encode(self, text: str) -> list[int]:
    """The tokens of a text, without begin and end."""
    return self._tokenizer.encode(text, add_special_tokens=False).ids

  def decode(self, ids: Iterable[int]) -> str:
    """The text of tokens; begin, end and padding are left out."""
    return self._tokenizer.decode([int(i) for i in ids])

  def pad_id(self) -> int:
    """Of the padding."""
    return self._tokenizer.token_to_id("<pad>")

  def bos_id(self) -> int:
    """Of the begin."""
    return self._tokenizer.token_to_id("<s>")

  def eos_id(self) -> int:
    """Of the end."""
    return self._tokenizer.token_to_id("</s>")

  def to_json(self) -> str:
    """The tokenizer as the library writes it."""
    return self._tokenizer.to_str()


class HuggingFace:
  """A tokenizer from a local folder, read by the `transformers` library.

  Attributes:
    size: the number of tokens, with added ones.
  """

  def __init__(self, tokenizer):
    """Takes a PreTrainedTokenizerBase."""
    self._tokenizer = tokenizer
    self.size = len(tokenizer)

  def encode(self, text: str) -> list[int]:
    """The tokens of a text, without begin and end."""
    return list(self._tokenizer.encode(text, add_special_tokens=False))

  def decode(self, ids: Iterable[int]) -> str:
    """The text of tokens; begin, end and padding are left out."""
    ids = [int(i) for i in ids]
    return self._tokenizer.decode(ids, skip_special_tokens=True)

  def bos_id(self) -> int | None:
    """Of the begin; None where there is none."""
    return self._tokenizer.bos_token_id

  def eos_id(self) -> int:
    """Of the end."""
    return self._tokenizer.eos_token_id

  def pad_id(self) -> int:
    """Of the padding; a tokenizer without one (Llama's) has the end's there.

    Losses and attention go by masks; only the sampler goes by this number, and
    no prompt has the end's token in it.
    """
    pad = self._tokenizer.pad_token_id
    return self._tokenizer.eos_token_id if pad is None else pad


def train(texts: Iterable[str], *, size: int) -> Library:
  """Learns byte-pair codes; digits stay single.

  Args:
    texts: what is learned from; the same texts give the same codes.
    size: the most tokens.
  Returns:
    The tokenizer.
  """
  from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
  from tokenizers.trainers import BpeTrainer

  tokenizer = Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [
      # A number's digits apart, with the space before it at the first.
      pre_tokenizers.Split(Regex(r" ?\d|\s?[^\s\d]+|\s"), "isolated"),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
  )
  tokenizer.decoder = decoders.ByteLevel()
  tokenizer.train_from_iterator(
    texts,
    BpeTrainer(
      vocab_size=size,
      special_tokens=list(_SPECIAL),
      initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
      show_progress=False,
    ),
  )
  return Library(tokenizer)


def from_json(text: str) -> Library:
  """The tokenizer that `Library.to_json` wrote."""
  from tokenizers import Tokenizer

  return Library(Tokenizer.from_str(text))


def from_folder(folder: str, *, flag: str) -> HuggingFace:
  """Reads a tokenizer from a local Hugging Face folder; nothing is fetched.

  Args:
    folder: with tokenizer.json, or tokenizer.model and tokenizer_config.json.
    flag: the flag that named the folder, for errors.
  Returns:
    The tokenizer.
  Raises:
    UsageError: there is none, it cannot be read, it has no end token, or a
      begin token that tunix's sampler does not see.
  """
  import transformers

  where = f"{flag}={folder}"
  if not epath.Path(folder).is_dir():
    raise UsageError(f"{where}: no such folder")
  try:
    tokenizer = transformers.AutoTokenizer.from_pretrained(
      folder, local_files_only=True
    )
  except (OSError, ValueError, KeyError, ImportError) as error:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise UsageError(
      f"{where}: has no readable tokenizer ({reason})"
    ) from error
  if tokenizer.eos_token_id is None:
    raise UsageError(f"{where}: its tokenizer has no end-of-sequence token")
  if tokenizer.bos_token_id == 0:
    raise UsageError(
      f"{where}: its begin-of-sequence token has the number 0, which tunix's"
      " sampler takes for none: answers would not begin as training does"
    )
  return HuggingFace(tokenizer)


def check_vocabulary(tokenizer, rows: int, *, padded: bool) -> None:
  """Raises UsageError unless tokenizer and model have one vocabulary.

  Args:
    tokenizer: any of the above.
    rows: of the model's embedding.
    padded: whether the model may have rows without a token.
  """
  if tokenizer.size == rows or (padded and tokenizer.size < rows):
    return
  hint = ""
  if tokenizer.size < rows:
    hint = (
      "; if those rows are padding, as Qwen's, say"
      " --config.model.padded_vocabulary=True"
    )
  raise UsageError(
    f"the tokenizer (--config.tokenizer) has {tokenizer.size:,} tokens and the"
    f" model's embedding (--config.model) {rows:,} rows{hint}"
  )
