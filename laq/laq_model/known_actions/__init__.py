"""What truly happened in a pair, where it is known: recorded labels, a table, LeRobot columns."""
