"""What may be destroyed, when, and why: policies, holds, the retention clock, plans. Pure: no files, no clock, no threads.

The vault gives facts and times, and carries out what comes back. docs/retention.md tells it to people.
"""
