"""Tests of the course: `make -C course test`."""
