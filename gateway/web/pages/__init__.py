"""Pages for people: plain HTML made here, without script and without anything from elsewhere."""
