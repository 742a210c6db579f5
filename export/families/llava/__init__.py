"""LLaVA-1.5, LLaVA-NeXT, LLaVA-OneVision and LLaVA-Video."""
