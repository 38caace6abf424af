"""Add-ons: each takes a recipe and gives a recipe; found by walking this folder."""
