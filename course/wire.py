"""Messages between the tests and a student's functions: JSON, with the values of tensors beside it.

Nothing that is read here can run: numbers, words, lists, and tensors by type, shape and bytes.
"""

import json
import math
import struct
from typing import Any, BinaryIO

import torch
from torch import Tensor

LARGEST = 200_000_000  # bytes of one message
KINDS = {str(kind): kind for kind in (torch.float64, torch.float32, torch.int64, torch.bool)}


def packed(value: object, blobs: list[bytes]) -> object:
    """What stands for a value in JSON; the bytes of its tensors go to `blobs`."""
    if isinstance(value, Tensor):
        dense = value.detach().cpu().contiguous()
        blobs.append(dense.flatten().view(torch.uint8).numpy().tobytes() if dense.numel() else b"")
        return {"tensor": str(dense.dtype), "shape": list(dense.shape), "bytes": len(blobs[-1])}
    if isinstance(value, dict):
        return {"dict": {key: packed(one, blobs) for key, one in value.items()}}
    if isinstance(value, list | tuple):
        return [packed(one, blobs) for one in value]
    return value


def unpacked(value: Any, blobs: memoryview, place: list[int]) -> Any:
    """The value that `packed` packed."""
    if isinstance(value, list):
        return [unpacked(one, blobs, place) for one in value]
    if not isinstance(value, dict):
        return value
    if "dict" in value:
        return {key: unpacked(one, blobs, place) for key, one in value["dict"].items()}
    kind, shape, size = KINDS[value["tensor"]], [int(side) for side in value["shape"]], int(value["bytes"])
    content, place[0] = bytearray(blobs[place[0] : place[0] + size]), place[0] + size
    if size != math.prod(shape) * kind.itemsize or min(shape, default=0) < 0:
        raise ValueError(f"{size} bytes for a tensor of shape {shape}")
    if not size:
        return torch.zeros(shape, dtype=kind)
    return torch.frombuffer(content, dtype=kind).reshape(shape)


def send(stream: BinaryIO, message: object) -> None:
    """Write one message."""
    blobs: list[bytes] = []
    words = json.dumps(packed(message, blobs)).encode()
    stream.write(struct.pack("<QQ", len(words), sum(map(len, blobs))) + words)
    stream.writelines(blobs)
    stream.flush()


def whole(stream: BinaryIO, size: int) -> bytes:
    """So many bytes; fewer mean that the other side has ended."""
    found = stream.read(size)
    if len(found) < size:
        raise EOFError
    return found


def receive(stream: BinaryIO) -> Any:
    """Read one message; whatever else stands in the stream raises ValueError, its end EOFError."""
    of_words, of_blobs = struct.unpack("<QQ", whole(stream, 16))
    if of_words + of_blobs > LARGEST:
        raise ValueError(f"a message of {(of_words + of_blobs) / 1e6:.0f} MB")
    words, blobs = whole(stream, of_words), whole(stream, of_blobs)
    try:
        return unpacked(json.loads(words), memoryview(blobs), [0])
    except (KeyError, TypeError, RuntimeError, RecursionError, OverflowError) as error:
        raise ValueError(f"not a message: {error}") from error
