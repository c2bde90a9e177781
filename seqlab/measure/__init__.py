"""What is read off a trajectory: attenuation, clip rules, Lyapunov exponents, fits, theory."""
