"""The image and text towers and their blocks."""
