"""One control step, prompt or further token as a torch module with a policy inside."""
