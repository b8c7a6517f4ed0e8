"""Which bytes answer a request, and with which status and headers."""
