"""The recipe of the built-in pair: tokenizer, documents, pretraining, fine-tuning, quick evaluation."""
