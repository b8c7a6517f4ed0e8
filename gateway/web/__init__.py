"""HTTP: requests in, answers out, and nothing decided here."""
