"""What holds for all tests."""

import matplotlib

# No window, whatever the machine's screen; notebooks run in kernels of their own and keep theirs.
matplotlib.use("Agg")
