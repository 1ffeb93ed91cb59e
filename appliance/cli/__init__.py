"""The command line."""

import os
import sys

# gRPC's C core writes lines of its own to standard error, and asks the environment once, at import. A client says all
# in one line of ours; a box that is started here shall not inherit the silence.
if os.path.basename(sys.argv[0]) in ("earwitness", "-m") and not {"serve", "demo", "--debug"} & set(sys.argv):
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
