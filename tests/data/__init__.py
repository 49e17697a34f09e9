"""Tests of `cops_lightning.data`; a package, so that its conftest is not taken for the one above."""
