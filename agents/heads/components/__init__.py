"""Components that several heads use: replays, momentum copies, augmentations, decoders."""
