"""A small English-Korean translator: corpus, training, export and evaluation."""
