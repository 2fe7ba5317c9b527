"""What holds for all tests."""

import signal

import matplotlib

# No window, whatever the machine's screen; notebooks run in kernels of their own and keep theirs.
matplotlib.use("Agg")

# What is started with `&` or under nohup ignores an interruption, and so would every process that a test
# starts, also one that the test means to interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
