"""Tables and pictures of the committed results, as pages show them."""
