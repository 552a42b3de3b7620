"""The diffusion process: schedules, step embedding, noise, PriorGrad's prior, class labels."""
