"""The puppet corpus: a photograph and an open face rig give pairs of faces whose motion is known exactly."""
