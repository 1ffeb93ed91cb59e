"""What somebody has to know and act on: kinds of alarms, their life, what is said of them and to whom. Pure, but for the
shells that send: `smtp`, `webhook`, `syslog`."""
