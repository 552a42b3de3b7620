"""The command ``engine bench``: how fast and how large this engine is on this machine, and how both grow."""
