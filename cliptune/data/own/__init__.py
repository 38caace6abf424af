"""One's own pictures: folders, lists, split files."""
