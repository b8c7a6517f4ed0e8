"""The processes that serve: one server, or several workers under a supervisor."""
