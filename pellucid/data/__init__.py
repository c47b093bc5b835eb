"""From sources to shards and the order they are read in: documents, tokenizer, shards, order."""
