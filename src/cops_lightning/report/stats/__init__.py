"""Estimates and tests as plain functions over arrays, which say so where the data do not suffice."""
