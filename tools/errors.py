"""One class for each kind of trouble; the text names the thing, its value and the remedy."""

import errno
import shutil
import sys
from collections.abc import Callable, Sequence


class BookError(Exception):
    """What stops a tool; the command line shows its text alone, without a traceback."""


class NotebookUnreadable(BookError):
    """A notebook is missing, no JSON, in the middle of a merge, or without what the tools rely on."""


class ModuleUnreadable(BookError):
    """A module of the package, or a cell, is no Python that could be analysed."""


class UnknownChapter(BookError):
    """No notebook of the table of contents has that name or number."""


class UnknownParameter(BookError):
    """The notebook's parameters cell does not set that name."""


class WrongParameter(BookError):
    """A parameter's value is not of its kind."""


class UnknownProfile(WrongParameter):
    """The profile is none of those that a notebook knows."""


class PictureMissing(WrongParameter):
    """The picture is neither a bundled one nor a file."""


class CellFailed(BookError):
    """A cell raised, or its kernel died."""


class StderrRefused(BookError):
    """A cell wrote to stderr: a warning on a page is an error."""


class EditedMeanwhile(BookError):
    """The notebook's file changed while it ran."""


class Busy(BookError):
    """Another process executes, or builds."""


class NotUpToDate(BookError):
    """A notebook's outputs are not those of its present sources."""


class BadSettings(BookError):
    """_config.yml or _toc.yml lacks a setting, or holds one that cannot be used."""


class AddressDiffers(BookError):
    """A derived address is not the one in _config.yml."""


class BuildFailed(BookError):
    """The strict build ended with warnings or errors."""


class LinksBroken(BookError):
    """A link within the book leads nowhere."""


class BrowserMissing(BookError):
    """No Chrome or Chromium was found that runs."""


class EnvironmentBroken(BookError):
    """An environment could not be made, or the package does not hold in it."""


class CourseMissing(BookError):
    """The masters of the assignments are not here."""


class CourseFailed(BookError):
    """nbgrader made no student notebook of a master."""


class BadSubmissions(BookError):
    """There is no folder of submissions to grade."""


class ReleaseFailed(BookError):
    """The public tree could not be made."""


class SlidesFailed(BookError):
    """No slides could be made of a chapter."""


# A tool may have finished some notebooks before it broke off; each is replaced whole or not at all.
KEPT = "what was finished is kept, every other notebook and page is as it was"
REMEDIES = {
    errno.ENOSPC: "make room on the disc and run again",
    errno.EDQUOT: "make room in what you may use of the disc and run again",
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
        # shutil has tried to copy a whole folder, and tells all that failed.
        number = trouble.errno or (errno.ENOSPC if isinstance(trouble, shutil.Error) else None)
        if number not in REMEDIES:
            raise
        sys.exit(f"{trouble}\n{KEPT}; {REMEDIES[number]}")
    except KeyboardInterrupt:
        sys.exit(f"interrupted; {KEPT}")
