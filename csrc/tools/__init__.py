"""How the package is built: the compiler, the wheels, and the check of other systems."""
