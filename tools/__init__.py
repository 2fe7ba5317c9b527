"""What executes, checks and builds the book: `python -m tools.NAME`; `make help` lists the ways in."""
