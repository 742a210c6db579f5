"""OpenVLA-OFT, as published and as saccade-mini has it."""
