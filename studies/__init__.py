"""The studies that carry the book's conclusions: long computations that anyone can run again.

A study is a file with a list of ``points`` and one pure function ``point``; what theory predicts of it stands
at its top, written before it was run. README.md says how to run one.
"""

from studies.reading import Interval as Interval
from studies.reading import interval as interval
from studies.reading import over_draws as over_draws
from studies.reading import results as results
from studies.reading import where_from as where_from
from studies.table import Outcome as Outcome
from studies.table import load as load
