"""Documents made from how the box really is: facts, then a document of blocks, then Markdown, HTML or PDF. Pure."""
