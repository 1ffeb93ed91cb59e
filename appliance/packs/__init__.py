"""What is made for those outside: packs of recordings in open forms. Cores: facts in, text and bytes out."""
