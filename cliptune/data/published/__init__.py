"""The field's data sets, read from the folders and split files that users already have."""
