"""From any text to the steps that saw it: a suffix array of the training tokens, and
what is asked of it. No torch."""
