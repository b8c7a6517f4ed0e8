"""One rule a file: `rule(Question) -> Verdict | None`."""
