"""Towers and tokenizers of other libraries behind the ports of CLIP; the libraries are imported when one is loaded."""
