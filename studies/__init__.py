"""The studies that carry the book's conclusions: long computations that anyone can run again.

A study is a file with a list of ``points`` and one pure function ``point``; what theory predicts of it stands
at its top, written before it was run. README.md says how to run one.
"""

from studies.table import Outcome as Outcome
from studies.table import load as load
