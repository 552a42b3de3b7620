"""Every operation of the network, once per backend; `reference` is the specification of all of them."""
