"""What run.py is made of: lines, servers that play a part, and those who ask."""
