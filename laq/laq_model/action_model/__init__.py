"""The parts of the latent action model: places compared, inverse dynamics, forward dynamics."""
