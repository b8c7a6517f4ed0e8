"""Pure decisions about who may do what with an asset: standard library only, no I/O, nothing of the gateway."""
