"""What a run tells people: its record, TensorBoard, figures, and where its time went."""
