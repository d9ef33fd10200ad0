"""Trained policies: scored over whole episodes, or filmed."""
