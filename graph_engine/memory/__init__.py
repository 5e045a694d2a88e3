"""Who lives on which device."""
