"""`earwitness demo`: the show, on an embedded box."""
