"""The switchboard's call records held against the recordings: what was contracted and is not there, or not whole.

Pure: bytes of a file, facts and a clock in; records, faults and a report out.
"""
