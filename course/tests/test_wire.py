"""Messages from a sandbox bring values, and nothing else."""

from __future__ import annotations

import io
import json
import struct

import pytest
import torch

from course import wire


def test_values_come_as_they_went() -> None:
    stream = io.BytesIO()
    tensors = [
        torch.randn(2, 3).double(),
        torch.arange(3),
        torch.zeros(0, 4),
        torch.ones(()),
        torch.ones(2) > 0,
    ]
    wire.send(stream, {"do": "call", "with": ["name", tensors, 3, 0.5, None, float("nan")]})
    stream.seek(0)
    name, found, *rest = wire.receive(stream)["with"]
    assert name == "name"
    assert all(
        torch.equal(one, two) and one.dtype == two.dtype for one, two in zip(found, tensors, strict=True)
    )
    assert rest[:3] == [3, 0.5, None]
    with pytest.raises(EOFError):
        wire.receive(stream)


def message(value: object, blobs: bytes = b"") -> io.BytesIO:
    words = json.dumps(value).encode()
    return io.BytesIO(struct.pack("<QQ", len(words), len(blobs)) + words + blobs)


@pytest.mark.parametrize(
    "stream",
    [
        io.BytesIO(struct.pack("<QQ", 2**60, 0)),
        io.BytesIO(struct.pack("<QQ", 4, 0) + b"oops"),
        message({"tensor": "torch.float64", "shape": [10**12], "bytes": 0}),
        message({"tensor": "torch.float64", "shape": [-1], "bytes": 8}, b"0" * 8),
        message({"tensor": "torch.float64", "shape": [2], "bytes": 8}, b"0" * 8),
        message({"tensor": "torch.float64", "shape": [1], "bytes": 8}, b"0" * 4),
        message({"tensor": "os.system", "shape": [1], "bytes": 8}, b"0" * 8),
        message({"tensor": [], "shape": 1, "bytes": None}),
        message({"tensor": "torch.float64", "shape": [float("inf")], "bytes": 8}),
    ],
)
def test_what_is_no_message_is_refused(stream: io.BytesIO) -> None:
    with pytest.raises(ValueError, match=r".+"):
        wire.receive(stream)
