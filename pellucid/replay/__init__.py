"""Any step again: its inputs, its state, and whether its bits are those the ledger records."""
