"""What truly happened in a pair, where somebody recorded it: labels, a table, or a LeRobot dataset's columns."""
