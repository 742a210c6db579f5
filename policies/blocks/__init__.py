"""Static-shape building blocks that policies share."""
