"""Command lines of the field's released code, in words of this one."""
