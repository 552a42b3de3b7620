"""Speed on a GPU, and the roofline model that predicts it."""
