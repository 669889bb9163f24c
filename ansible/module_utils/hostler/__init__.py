"""What Hostler's modules share; the standard library only."""
