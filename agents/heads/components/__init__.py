"""What several heads are made of: replays, momentum copies, random changes of observations."""
