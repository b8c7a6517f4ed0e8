"""What the tasks, the copying and the asking share: the providers, what their answers do, where bytes come from."""
