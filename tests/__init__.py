"""Tests; this file makes `python -m tests.parity` find them before any other package called tests."""
