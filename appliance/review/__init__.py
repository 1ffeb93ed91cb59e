"""Reviews of calls, pure: scorecards, how answers become a score, which calls are drawn for review, figures over time."""
