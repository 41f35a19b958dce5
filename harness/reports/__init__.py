"""Reporters: each subscribes to a run's events and writes them somewhere."""
