"""LeRobot datasets of version 3.0, read without the lerobot package."""
