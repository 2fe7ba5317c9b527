"""The error of all tools, and how their command lines show it."""

import errno
import shutil
import sys
from collections.abc import Callable, Sequence


class BookError(Exception):
    """What stops a tool: its text names the thing, its value and the remedy."""


# A tool may have finished some notebooks before it broke off; each is replaced whole or not at all.
KEPT = "what was finished is kept, every other notebook and page is as it was"
REMEDIES = {
    errno.ENOSPC: "make room on the disc and run again",
    errno.EDQUOT: "make room in your disc quota and run again",
    errno.EFBIG: "allow larger files (ulimit -f) and run again",
    errno.EROFS: "copy the book to a folder that you may write in",
    errno.EACCES: "copy the book to a folder that you may write in",
    errno.EPERM: "copy the book to a folder that you may write in",
}


def run_main(main: Callable[[Sequence[str]], None]) -> None:
    """Run a tool's `main` on the command line's words; trouble becomes one message and status 1."""
    try:
        main(sys.argv[1:])
    except BookError as trouble:
        sys.exit(f"{trouble}")
    except OSError as trouble:
        # shutil copies all it can of a folder, and only then names what failed.
        number = trouble.errno or (errno.ENOSPC if isinstance(trouble, shutil.Error) else None)
        if number not in REMEDIES:
            raise
        sys.exit(f"{trouble}\n{KEPT}; {REMEDIES[number]}")
    except KeyboardInterrupt:
        sys.exit(f"interrupted; {KEPT}")
