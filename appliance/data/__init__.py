"""What comes with the product: sample prompts, made by tools/make_prompts.py."""
