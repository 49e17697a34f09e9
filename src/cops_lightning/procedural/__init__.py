"""Procedural images of textures, objects and medical look-alikes, with defects and pixel-exact masks."""
