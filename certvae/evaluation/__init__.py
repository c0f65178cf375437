"""What is said of a trained network: diagnostics, fitted heads, facts of a row."""
