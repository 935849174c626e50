"""A model on disk, without torch: where its files are, its configuration, its tokenizer, its chat template."""
