"""Files: whole or not at all, hashed, never outside their folder. No torch, and no meaning."""
