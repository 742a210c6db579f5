"""Token-selection policies: which visual tokens survive."""
