"""Turn recordings of talking people into training data: aligned crops, landmarks, sound features, labels, splits."""
