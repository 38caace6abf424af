"""What commands share: opening, options, settings, showing."""
