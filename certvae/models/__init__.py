"""Networks: encoder, decoder, raw head."""
