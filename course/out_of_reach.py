"""dipfilters where a student's functions are tested: pictures, noise, PSNR and the checks, and nothing else.

Everything else can be imported, so that cells run on, and says what it is when it is used.
"""

import importlib.abc
import importlib.machinery
import sys
from types import ModuleType

from dipfilters.decoding import as_picture as as_picture
from dipfilters.images import add_noise as add_noise
from dipfilters.images import load_image as load_image
from dipfilters.images import psnr as psnr
from dipfilters.images import typical_pixels as typical_pixels


class OutOfReach(RuntimeError):
    """The package was used where a student's own code is wanted."""


class Placeholder:
    """What stands for a function or a class of the package."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *given: object, **named: object) -> object:
        raise OutOfReach(f"use your own code: {self._name} of the package is out of reach in the tests")


class Module(ModuleType):
    """What stands for a module of the package."""

    def __getattr__(self, name: str) -> Placeholder:
        if name.startswith("__"):
            raise AttributeError(name)
        return Placeholder(name)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a placeholder for each module that was left out."""

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name.startswith("dipfilters.") else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


sys.meta_path.append(Finder())


def __getattr__(name: str) -> Placeholder:
    if name.startswith("__"):
        raise AttributeError(name)
    return Placeholder(name)
